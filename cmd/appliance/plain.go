package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"

	"github.com/mirror-appliance/appliance/internal/plain"
)

// plain is std with output that cannot drive a terminal, since what daemons and files say may hold control characters.
func (s stdio) plain() stdio {
	return stdio{in: s.in, out: plain.NewWriter(s.out), err: plain.NewWriter(s.err)}
}

// output writes as long as there is a reader. A command whose output is not read any more, as with "| head -1", goes on:
// what it does is not to be left half done. Another error, such as a full disk, is kept: a script must not take half of an
// answer for all of it.
type output struct {
	io.Writer
	failed atomic.Pointer[error] // the first error
}

func (w *output) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		return len(p), nil
	}
	if err != nil {
		w.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// err is what writing failed with, for a command that has failed with nothing else.
func (w *output) err() error {
	if failed := w.failed.Load(); failed != nil {
		return fmt.Errorf("done, but not all of it could be said: %w", *failed)
	}
	return nil
}

// isTerminal reports whether w is one, which bars are drawn on.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// surviveClosedOutput has a write to a closed pipe fail, where the Go runtime would end the process. The signal is not
// ignored, since that is inherited by the programs that a command runs.
func surviveClosedOutput() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
