// Package powercut runs a process of a test and ends it as a power cut does: of what it wrote to files of a
// directory, only what it synced is sure to be there.
//
// Start a Process, and name the system call on those files at which it ends, or Cut it, and have Leave write what a disk may
// have then: a file has what was synced, and any of what was written since, torn; a name is there if its directory
// was synced, and any of those that came since, in their order.
//
// The process is watched with ptrace. Refused: a file system in user space, since /dev/fuse is not everywhere and
// its kernel cache syncs by itself; kill -9 alone, which loses nothing that was written.
//
// Not seen, and so not for processes that use it: mappings that are written, but for SQLite's -shm, which no
// power cut leaves; io_uring; renames of directories.
package powercut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TempDir returns a directory in memory where there is one: a power cut here needs no disk, whose syncs take time.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "powercut")
	if err == nil {
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	} else {
		dir = t.TempDir()
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Process is a process that is watched.
type Process struct {
	disk  *disk
	at    atomic.Int64 // the operation before which it ends; 0: none
	count atomic.Int64
	pid   atomic.Int64
	ended chan struct{}

	mu    sync.Mutex // guards what follows
	cut   bool
	exit  unix.WaitStatus
	fault error // of watching
}

// Start starts a command, and ends it before the system call number at on files of dir; 0: at none. dir must not
// be reached through symbolic links, and what it has is on disk.
func Start(c *exec.Cmd, dir string, at int) (*Process, error) {
	d, err := newDisk(dir)
	if err != nil {
		return nil, err
	}
	p := &Process{disk: d, ended: make(chan struct{})}
	p.at.Store(int64(at))
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Ptrace, c.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	started := make(chan error)
	go p.watch(c, started)
	return p, <-started
}

// Cut cuts the power, if the process runs.
func (p *Process) Cut() {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	select {
	case <-p.ended:
	default:
		_ = unix.Kill(int(p.pid.Load()), unix.SIGKILL)
	}
	<-p.ended
}

// CutAfter cuts the power n system calls on files of the directory from now.
func (p *Process) CutAfter(n int) { p.at.Store(p.count.Load() + int64(n)) }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Operations returns how many system calls on files of the directory there were.
func (p *Process) Operations() int { return int(p.count.Load()) }

// Err returns nil if the power was cut, and otherwise the reason why the process has ended.
func (p *Process) Err() error {
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.fault != nil:
		return fmt.Errorf("watch the process: %w", p.fault)
	case !p.cut:
		return fmt.Errorf("the process ended by itself, with status %d, signal %v", p.exit.ExitStatus(), p.exit.Signal())
	}
	return nil
}

// watch is the tracer, which is a thread.
func (p *Process) watch(c *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // a thread that ended would end with it what it had started before, see Pdeathsig
	err := c.Start()
	if err != nil {
		started <- err
		return
	}
	p.pid.Store(int64(c.Process.Pid))
	started <- nil
	fault := p.trace(c.Process.Pid)
	_ = c.Wait() // the process is gone; this is for its output
	p.mu.Lock()
	p.fault = fault
	p.mu.Unlock()
	close(p.ended)
}

// errEnded ends the watching of a process that has ended.
var errEnded = errors.New("ended")

func (p *Process) trace(leader int) error {
	t := &tracer{Process: p, leader: leader, within: map[int]bool{}}
	_, err := t.wait(leader) // it stops when it begins
	if err == nil {
		err = unix.PtraceSetOptions(leader, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL)
	}
	pid, signal := leader, 0
	for err == nil {
		// A thread that was killed cannot go on.
		if err = unix.PtraceSyscall(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			break
		}
		var status unix.WaitStatus
		if pid, status, err = t.next(-1); err == nil {
			signal, err = t.stopped(pid, status.StopSignal())
		}
	}
	if errors.Is(err, errEnded) {
		return nil
	}
	_ = unix.Kill(leader, unix.SIGKILL)
	for {
		if _, _, last := t.next(-1); last != nil {
			return err
		}
	}
}

// tracer is the thread's.
type tracer struct {
	*Process
	leader int
	within map[int]bool // a thread is in a system call
}

// next returns a thread that has stopped. errEnded when the process has ended.
func (t *tracer) next(which int) (pid int, status unix.WaitStatus, err error) {
	for {
		pid, err = unix.Wait4(which, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return 0, status, errEnded
		case err != nil || status.Stopped():
			return pid, status, err
		case pid == t.leader:
			t.mu.Lock()
			t.exit = status
			t.mu.Unlock()
			return pid, status, errEnded
		case pid == which:
			return pid, status, unix.ESRCH
		}
	}
}

func (t *tracer) wait(pid int) (unix.WaitStatus, error) {
	_, status, err := t.next(pid)
	return status, err
}

const sysgood = 0x80

// stopped looks at a thread that has stopped, and returns the signal that it gets.
func (t *tracer) stopped(pid int, signal syscall.Signal) (int, error) {
	switch {
	case signal == syscall.SIGTRAP|sysgood:
		if t.within[pid] {
			delete(t.within, pid)
			return 0, nil
		}
		t.within[pid] = true
		return 0, t.enters(pid)
	case signal == syscall.SIGTRAP, signal == syscall.SIGSTOP: // a thread has begun
		return 0, nil
	}
	return int(signal), nil
}

// enters is called where a thread enters a system call. One on files of the directory runs to its end while no
// other does, so that what was done is known in its order.
func (t *tracer) enters(pid int) error {
	var call call
	if err := call.get(pid); err != nil {
		return nil //nolint:nilerr // the thread was killed
	}
	if !t.disk.concerns(pid, &call) {
		return nil
	}
	if n, at := t.count.Add(1), t.at.Load(); at > 0 && n >= at {
		t.mu.Lock()
		t.cut = true
		t.mu.Unlock()
		return unix.Kill(t.leader, unix.SIGKILL)
	}
	for signal := 0; ; {
		if err := unix.PtraceSyscall(pid, signal); err != nil {
			return nil //nolint:nilerr // the same
		}
		status, err := t.wait(pid)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return err
		}
		if status.StopSignal() == syscall.SIGTRAP|sysgood {
			break
		}
		signal = int(status.StopSignal())
	}
	delete(t.within, pid)
	if err := call.get(pid); err != nil || int64(call.result) < 0 {
		return nil //nolint:nilerr // the same
	}
	return t.disk.did(pid, &call)
}
