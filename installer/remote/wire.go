package remote

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Request is a command with its flags, as they were typed.
type Request struct {
	Command string   `json:"command"`
	Flags   []Flag   `json:"flags,omitempty"`
	Args    []string `json:"args,omitempty"`
}

// Flag is a flag and its value.
type Flag struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// File is the content of the file that Value names, which is on the host of Run.
	File []byte `json:"file,omitempty"`
}

// maxLine is the limit of a line in either direction. A request has files of certificates in it.
const maxLine = 16 << 20

// toTarget is a line of standard input after the request. An empty one shows that the connection
// stands.
type toTarget struct {
	Line      *string `json:"line,omitempty"`      // what was asked for
	End       bool    `json:"end,omitempty"`       // there is nothing more to ask for
	Interrupt bool    `json:"interrupt,omitempty"` // as a signal
	Shown     bool    `json:"shown,omitempty"`     // all that came was shown
}

// fromTarget is a line of standard output.
type fromTarget struct {
	Version string `json:"version,omitempty"` // the first line: of the program, which is ready
	Out     string `json:"out,omitempty"`
	Err     string `json:"err,omitempty"`
	Ask     bool   `json:"ask,omitempty"`     // a line of standard input is wanted
	Confirm bool   `json:"confirm,omitempty"` // Shown is wanted
	Exit    *int   `json:"exit,omitempty"`    // the last line
}

// Both ends send a line each alive, and give up after silence.
const (
	alive   = 10 * time.Second
	silence = time.Minute
)

// lineWriter writes values as lines of JSON.
type lineWriter struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *lineWriter) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) >= maxLine {
		return fmt.Errorf("the files of the command are larger than %d MiB together", maxLine>>20)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(append(text, '\n'))
	return err
}

// readLine reads a line, which must not be longer than maxLine.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d MiB", maxLine>>20)
		}
	}
}
