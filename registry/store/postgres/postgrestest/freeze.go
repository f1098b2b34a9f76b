package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Freeze stops all processes of the server: connections to it are accepted, and nothing is answered.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw has them go on.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

// signal signals the server first, which then starts no process.
func (s *Server) signal(sig syscall.Signal) error {
	server := s.serve.Process.Pid
	if err := syscall.Kill(server, sig); err != nil {
		return err
	}
	if sig == syscall.SIGSTOP { // until it has stopped it may start a process that is not among the children
		var err error
		for again := true; again; again = errors.Is(err, unix.EINTR) {
			err = unix.Waitid(unix.P_PID, server, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		}
		if err != nil {
			return fmt.Errorf("wait until the server has stopped: %w", err)
		}
	}
	children, err := s.children()
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := syscall.Kill(child, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// children returns the processes that the server has started.
func (s *Server) children() (children []int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, rest, _ := strings.Cut(string(text), " ")
		// The name, in parentheses, may have blanks; the state and the parent are after it.
		fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		if len(fields) < 2 || fields[1] != strconv.Itoa(s.serve.Process.Pid) {
			continue
		}
		child, err := strconv.Atoi(pid)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		children = append(children, child)
	}
	return children, nil
}
