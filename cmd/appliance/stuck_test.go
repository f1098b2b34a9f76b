package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStuck_endsOnASignal has a command wait for what never comes.
func TestStuck_endsOnASignal(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("appliance")
	must(t, err)
	for signals := 1; signals <= 2; signals++ {
		t.Run(fmt.Sprintf("%d signals", signals), func(t *testing.T) {
			t.Parallel()
			fifo := filepath.Join(t.TempDir(), "imageset.yaml")
			must(t, unix.Mkfifo(fifo, 0o600))
			c := exec.Command(program, "mirror", "-c", fifo, "docker://localhost:1", "--workspace", "file://"+t.TempDir())
			stderr := &said{}
			c.Stderr = stderr
			must(t, c.Start())
			w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // which waits until the command reads
			must(t, err)
			defer w.Close()
			ended := make(chan error, 1)
			go func() { ended <- c.Wait() }()
			must(t, c.Process.Signal(syscall.SIGTERM))
			for again := signals > 1; again; {
				select {
				case err = <-ended:
					again = false
				case <-time.After(20 * time.Millisecond): // Go's runtime, while it dies of one, does not bear a hundred more
					_ = c.Process.Signal(syscall.SIGTERM) // until the first has been taken
				}
			}
			if signals > 1 {
				if err == nil || !strings.Contains(err.Error(), "terminated") {
					t.Errorf("it ended with %v", err)
				}
				return
			}
			if err := <-ended; err == nil || !strings.Contains(stderr.String(), "did not end within") {
				t.Errorf("it ended with %v\n%s", err, stderr)
			}
		})
	}
}

// TestStuck_childForRoot has the process that acts for root on a store be stopped: it ends with the
// command and leaves no lock.
func TestStuck_childForRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has a command act as another user")
	}
	t.Parallel()
	f := newFaulty(t, "")
	f.become(t, 65534)
	c, child := stoppedChild(t, f)
	_ = c.Process.Signal(syscall.SIGTERM)
	_ = c.Wait() // how it ended is of no matter
	if err := syscall.Kill(child, 0); err == nil {
		t.Errorf("process %d goes on", child)
	}
	list := f.command("user", "list")
	list.SysProcAttr = nil
	if out, err := list.CombinedOutput(); err != nil {
		t.Errorf("afterwards: %v\n%s", err, out)
	}
}

// stoppedChild starts a command of root's whose child has the store, and stops the child. Its
// standard input has ended, so that it may end before it is stopped: then another one is started.
func stoppedChild(t *testing.T, f *faulty) (c *exec.Cmd, child int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		c = f.command("control")
		c.SysProcAttr = nil
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("it says %q, %v", line, err)
		}
		for _, child := range childrenOf(t, c.Process.Pid) {
			if syscall.Kill(child, syscall.SIGSTOP) == nil {
				return c, child
			}
		}
		_ = c.Wait()
	}
	t.Fatal("no child could be stopped")
	return nil, 0
}

// childrenOf lists the children of a process, by the threads that have them.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	for _, task := range tasks {
		list, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		must(t, err)
		for _, field := range strings.Fields(string(list)) {
			child, err := strconv.Atoi(field)
			must(t, err)
			children = append(children, child)
		}
	}
	return children
}
