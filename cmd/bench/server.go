package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A server is a process that serves HTTPS on 127.0.0.1.
type server struct {
	name   string
	addr   string
	scheme authScheme
	cmd    *exec.Cmd
	ended  chan error
	began  time.Time
	ready  time.Time // when it first shook hands
	log    string    // file
}

// authScheme says whether the server wants to know who asks.
type authScheme bool

const (
	anonymous authScheme = false
	basic     authScheme = true
)

// start starts a program that listens on addr by itself.
func start(ctx context.Context, s *site, name, addr string, scheme authScheme, program string, args ...string) (*server, error) {
	return launch(ctx, s, &server{name: name, addr: addr, scheme: scheme}, exec.CommandContext(ctx, program, args...))
}

// startSelf starts this program again as a server, which is handed its listener: a client that comes
// before it is ready waits, so that waiting needs no polling.
func startSelf(ctx context.Context, s *site, name string, scheme authScheme, args ...string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close() // the child has a copy
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.ExtraFiles = []*os.File{f}
	return launch(ctx, s, &server{name: name, addr: l.Addr().String(), scheme: scheme}, cmd)
}

func launch(ctx context.Context, s *site, srv *server, cmd *exec.Cmd) (*server, error) {
	srv.log = s.path(srv.name + ".log")
	out, err := os.OpenFile(srv.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no server outlives a killed bench
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	srv.cmd, srv.ended, srv.began = cmd, make(chan error, 1), time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", srv.name, err)
	}
	go func() { srv.ended <- cmd.Wait() }()
	if err := srv.awaitTLS(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w\n%s", srv.name, err, srv.tail()), srv.stop())
	}
	srv.ready = time.Now()
	return srv, nil
}

// awaitTLS waits until the server shakes hands.
func (s *server) awaitTLS(ctx context.Context, at *site) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dialer := &tls.Dialer{Config: at.clientTLS("http/1.1")}
	for {
		conn, err := dialer.DialContext(ctx, "tcp", s.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case ended := <-s.ended:
			s.ended <- ended
			return fmt.Errorf("it ended: %w", errors.Join(ended, err))
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the server in order and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-s.ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) && s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			return nil // by our own SIGTERM
		}
		if err != nil && s.scheme == basic {
			return fmt.Errorf("%s: %w\n%s", s.name, err, s.tail())
		}
		return nil // what a peer thinks of being stopped is its own business
	case <-time.After(40 * time.Second):
		return errors.Join(fmt.Errorf("%s does not end", s.name), s.cmd.Process.Kill())
	}
}

// tail is the end of what the server had to say.
func (s *server) tail() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// cpu is the CPU time that the whole process has used, in user and kernel, to the nanosecond: what
// getrusage would tell it of itself, and this also for programs that are not ours.
func (s *server) cpu() (time.Duration, error) {
	const wholeProcess = 2 // CPUCLOCK_SCHED of clockid_t, see clock_getcpuclockid(3)
	var t unix.Timespec
	clock := int32(^s.cmd.Process.Pid)<<3 | wholeProcess
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of %s: %w", s.name, err)
	}
	return time.Duration(t.Nano()), nil
}

// memory reads a field of /proc/PID/status, in MiB.
func (s *server) memory(field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s of %s", field, s.name)
}

// forgetPeak has VmHWM begin anew.
func (s *server) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0)
}

func stopAll(servers []*server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.stop())
	}
	return errors.Join(errs...)
}
