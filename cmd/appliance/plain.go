package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/plain"
)

// plain is std with output that cannot drive a terminal, since what daemons and files say may hold control characters,
// and that a command survives when it is closed.
func (s stdio) plain() stdio {
	return stdio{in: s.in, out: plain.NewWriter(unread{s.out}), err: plain.NewWriter(unread{s.err})}
}

// unread writes as long as there is a reader. A command whose output is not read any more, as with "| head -1", goes on:
// what it does is not to be left half done.
type unread struct{ io.Writer }

func (w unread) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		return len(p), nil
	}
	return n, err
}

// surviveClosedOutput has a write to a closed pipe fail, where the Go runtime would end the process. The signal is not
// ignored, since that is inherited by the programs that a command runs.
func surviveClosedOutput() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
