package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"
)

// Notes keeps short texts by name.
type Notes interface {
	Note(ctx context.Context, name string) (string, error) // "" if there is none
	SetNote(ctx context.Context, name, text string) error  // "" removes it
}

// Note is a value that a kind of work keeps over restarts. Failures to read or write it are logged.
type Note[T any] struct {
	name   string
	notes  Notes
	log    *slog.Logger
	shared bool // other daemons write it
	newest atomic.Pointer[T]
}

// noteTime bounds how long a note is read that other daemons write.
const noteTime = 5 * time.Second

// OpenNote reads the value under a name.
func OpenNote[T any](ctx context.Context, notes Notes, name string, log *slog.Logger) *Note[T] {
	n := &Note[T]{name: name, notes: notes, log: log}
	if several, ok := notes.(interface{ Several() bool }); ok {
		n.shared = several.Several()
	}
	n.read(ctx)
	return n
}

func (n *Note[T]) read(ctx context.Context) {
	text, err := n.notes.Note(ctx, n.name)
	if err == nil && text == "" {
		n.newest.Store(nil)
	}
	if err == nil && text != "" {
		var v T
		if err = json.Unmarshal([]byte(text), &v); err == nil {
			n.newest.Store(&v)
		}
	}
	if err != nil {
		n.log.Warn("the note of a job cannot be read", "note", n.name, "error", err)
	}
}

// Get returns the last value, or nil: that of any daemon of the store.
func (n *Note[T]) Get() *T {
	if n.shared {
		ctx, cancel := context.WithTimeout(context.Background(), noteTime)
		defer cancel()
		n.read(ctx)
	}
	return n.newest.Load()
}

// Set keeps v.
func (n *Note[T]) Set(ctx context.Context, v T) {
	n.newest.Store(&v)
	text, err := json.Marshal(v)
	if err == nil {
		err = n.notes.SetNote(ctx, n.name, string(text))
	}
	n.written(err)
}

// Remove removes the value.
func (n *Note[T]) Remove(ctx context.Context) {
	n.newest.Store(nil)
	n.written(n.notes.SetNote(ctx, n.name, ""))
}

func (n *Note[T]) written(err error) {
	if err != nil {
		n.log.Warn("the note of a job cannot be written", "note", n.name, "error", err)
	}
}
