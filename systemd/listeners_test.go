package systemd

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// asChild makes this test binary the daemon that a socket started: it serves one
// connection on each listener.
const asChild = "APPLIANCE_TEST_LISTENERS"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	// systemd sets this between fork and exec, where it knows the process.
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	if err := serveOnce(); err != nil {
		var hinted interface{ Hint() string }
		fmt.Fprintf(os.Stderr, "error: %v\nhinted: %v\n", err, errors.As(err, &hinted))
		os.Exit(1)
	}
}

func serveOnce() error {
	listeners, err := Listeners()
	if err != nil {
		return err
	}
	again, err := Listeners()
	if err != nil {
		return err
	}
	for i, listener := range listeners {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintf(conn, "%d of %d, then %d, environment %q\n", i, len(listeners), len(again), os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_FDNAMES"))
		conn.Close()
	}
	return nil
}

// child starts the daemon with files as systemd hands them over.
func child(t *testing.T, names string, files ...*os.File) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"=1", fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr
}

func socket(t *testing.T) (string, *os.File) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return listener.Addr().String(), file
}

func TestListeners(t *testing.T) {
	first, firstFile := socket(t)
	second, secondFile := socket(t)
	cmd, stderr := child(t, "https:https", firstFile, secondFile)
	firstFile.Close() // so that they go with a child that ends early
	secondFile.Close()
	for i, addr := range []string{first, second} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if want := fmt.Sprintf("%d of 2, then 0, environment \"\"\n", i); err != nil || line != want {
			t.Errorf("got %q %v, want %q", line, err, want)
		}
		conn.Close()
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr)
	}
}

func TestListeners_Refuses(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, good := socket(t)
	for name, c := range map[string]struct {
		names string
		file  *os.File
		says  string
	}{
		"a socket of another name": {"https:metrics", good, `socket "metrics" from systemd: unknown name`},
		"what is no socket":        {"https:https", file, `socket "https" from systemd`},
		"a socket without a name":  {"https", good, "unknown name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, first := socket(t)
			cmd, stderr := child(t, c.names, first, c.file)
			if cmd.Wait() == nil || !strings.Contains(stderr.String(), c.says) || !strings.Contains(stderr.String(), "hinted: true") {
				t.Errorf("got %q, want an error about %q with a hint", stderr, c.says)
			}
		})
	}
}

func TestListeners_WithoutSystemd(t *testing.T) {
	t.Setenv("LISTEN_PID", "")
	if listeners, err := Listeners(); len(listeners) > 0 || err != nil {
		t.Errorf("got %v %v", listeners, err)
	}
}
