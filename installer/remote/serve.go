package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Streams are those of a command that runs for another host.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Shown waits until the other host has shown what was written.
	Shown func() error
}

// served is a command that runs for another host.
type served struct {
	out     lineWriter
	lines   chan string // answers; closed at the end of the other host's standard input
	shown   chan struct{}
	rest    []byte // of an answer that was read in part
	replace *strings.Replacer
	silence time.Duration
}

// Serve answers Run on in and out: it reads a request, has command run it and removes the copy of
// this program. The context of command ends when the connection does.
func Serve(ctx context.Context, in io.Reader, out io.Writer, version string, command func(context.Context, Request, Streams) int) error {
	if self, err := os.Executable(); err == nil && IsCopy(self) {
		defer os.RemoveAll(filepath.Dir(self))
	}
	s := &served{out: lineWriter{w: out}, lines: make(chan string), shown: make(chan struct{}, 1),
		replace: strings.NewReplacer(), silence: silence}
	return s.serve(ctx, in, version, command)
}

func (s *served) serve(ctx context.Context, in io.Reader, version string, command func(context.Context, Request, Streams) int) error {
	if err := s.out.write(fromTarget{Version: version}); err != nil {
		return err
	}
	input := bufio.NewReaderSize(in, 64<<10)
	req, err := readRequest(input)
	if err != nil {
		return err
	}
	remove, err := s.files(&req)
	if err != nil {
		return err
	}
	defer remove()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.listen(ctx, input, cancel)
	streams := Streams{In: &answers{s, ctx}, Shown: func() error { return s.waitShown(ctx) }}
	streams.Out = writer(func(text string) error { return s.out.write(fromTarget{Out: s.replace.Replace(text)}) })
	streams.Err = writer(func(text string) error { return s.out.write(fromTarget{Err: s.replace.Replace(text)}) })
	code := command(ctx, req, streams)
	return s.out.write(fromTarget{Exit: &code})
}

// readRequest reads the first line, strictly.
func readRequest(in *bufio.Reader) (req Request, err error) {
	line, err := readLine(in)
	if err != nil {
		return req, fmt.Errorf("read the request: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return req, fmt.Errorf("read the request: %w", err)
	}
	if d.More() {
		return req, errors.New("read the request: there is something after it")
	}
	return req, nil
}

// files writes the files that came with a request to a directory that only this user can read, and
// puts their paths into the flags. Messages keep the paths that the user knows.
func (s *served) files(req *Request) (remove func(), err error) {
	dir, err := os.MkdirTemp("", "appliance-request-")
	if err != nil {
		return nil, fmt.Errorf("write the files of the request: %w", err)
	}
	var names []string
	for i, f := range req.Flags {
		if f.File == nil {
			continue
		}
		path := filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(f.Value)))
		if err := os.WriteFile(path, f.File, 0o600); err != nil {
			_ = os.RemoveAll(dir)
			return nil, fmt.Errorf("write the files of the request: %w", err)
		}
		names = append(names, path, f.Value)
		req.Flags[i] = Flag{Name: f.Name, Value: path}
	}
	s.replace = strings.NewReplacer(names...)
	return func() { _ = os.RemoveAll(dir) }, nil // of a temporary directory
}

var (
	errInterrupted = errors.New("stopped by a signal")
	errCutOff      = errors.New("the connection was cut off")
)

// listen reads what the other host sends after the request, and cancels the command when it ends.
func (s *served) listen(ctx context.Context, in *bufio.Reader, cancel context.CancelCauseFunc) {
	watch := time.AfterFunc(s.silence, func() { cancel(errCutOff) })
	defer watch.Stop()
	ended := false
	for {
		text, err := readLine(in)
		if err != nil {
			cancel(errCutOff)
			return
		}
		watch.Reset(s.silence)
		var line toTarget
		if json.Unmarshal(text, &line) != nil {
			cancel(errCutOff) // nothing of ours
			return
		}
		switch {
		case line.Interrupt:
			cancel(errInterrupted)
		case line.Shown:
			select {
			case s.shown <- struct{}{}:
			default:
			}
		case line.End && !ended:
			ended = true
			close(s.lines)
		case line.Line != nil && !ended:
			select {
			case s.lines <- *line.Line:
			case <-ctx.Done():
			}
		}
	}
}

// waitShown asks whether all was shown.
func (s *served) waitShown(ctx context.Context) error {
	if err := s.out.write(fromTarget{Confirm: true}); err != nil {
		return err
	}
	select {
	case <-s.shown:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// writer is a function as an io.Writer.
type writer func(text string) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// answers are standard input of the other host, of which a line is taken when one is wanted.
type answers struct {
	*served
	ctx context.Context
}

func (a *answers) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if err := a.out.write(fromTarget{Ask: true}); err != nil {
			return 0, err
		}
		select {
		case line, ok := <-a.lines:
			if !ok {
				return 0, io.EOF
			}
			a.rest = []byte(line + "\n")
		case <-a.ctx.Done():
			return 0, context.Cause(a.ctx)
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}
