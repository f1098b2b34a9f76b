package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// plain is std whose output cannot drive a terminal: text of daemons may have control characters.
func (s stdio) plain() stdio {
	s.out, s.err = plain.NewWriter(s.out), plain.NewWriter(s.err)
	return s
}

// output ignores a closed pipe, as with "| head -1": the command completes what it does. Another
// error, such as a full disk, is kept: a script must not take half of an answer for all of it.
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

// surviveClosedOutput makes a write to a closed pipe fail, where the Go runtime would end the
// process. The signal is not ignored, since child processes would inherit that.
func surviveClosedOutput() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// addOutputFlag adds -o as oc and kubectl have it.
func addOutputFlag(f *pflag.FlagSet, output *string) {
	f.FuncP("output", "o", "json for scripts", func(s string) error {
		if s != "" && s != "json" {
			return hint.New(fmt.Errorf("--output %q is not known", s), "leave it out, or use --output json")
		}
		*output = s
		return nil
	})
}

// checkOutput refuses another format of --output than json.
func checkOutput(output string) error {
	if output != "" && output != "json" {
		return fmt.Errorf("--output %q: only json is known", output)
	}
	return nil
}

// show prints v as JSON, if that is asked for, or as print does.
func show[T any](w io.Writer, output string, v T, print func(io.Writer, T)) error {
	if output == "json" {
		return printJSON(w, v)
	}
	print(w, v)
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// addRateFlag adds the flag for a number of bytes per second; verb is what is slowed down.
func addRateFlag(f *pflag.FlagSet, rate *int64, verb string) {
	usage := verb + " no faster than this per second, such as 50MB (default: as fast as it goes)"
	f.Func("rate", usage, func(s string) error {
		n, err := humanize.ParseBytes(s)
		if s != "" && (err != nil || n == 0 || n > 1<<50) {
			return hint.New(fmt.Errorf("--rate %q is not a number of bytes per second", s), "for example --rate 50MB")
		}
		*rate = int64(n)
		return nil
	})
}

// sayEvery is how often the progress of a job, which the daemon reports about each
// second, is printed.
const sayEvery = 1500 * time.Millisecond

// nowAndThen returns a function that prints the progress of a job, a line each two seconds. Of a
// short job it prints nothing.
func nowAndThen(w io.Writer) func(format string, args ...any) {
	last := time.Now()
	return func(format string, args ...any) {
		if time.Since(last) < sayEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, format+"\n", args...)
	}
}

func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func when(t time.Time) string { return t.Local().Format(time.DateTime) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func garbage(g gc.Result) string {
	return fmt.Sprintf("%s, %s, %s", count(g.Blobs, "blob"), count(g.Uploads, "unfinished upload"),
		count(g.Runs, "abandoned sync"))
}

// howFar is how much of the store a scrub has read.
func howFar(s api.ScrubState) string {
	return fmt.Sprintf("%d of %s, %s of %s read, %d damaged, %d of them repaired",
		s.Blobs, count(int(s.Of.Blobs), "blob"), bytesOf(s.Bytes), bytesOf(s.Of.Bytes), s.Damaged, s.Repaired)
}
