package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
)

// Notes keeps short texts by name.
type Notes interface {
	Note(ctx context.Context, name string) (string, error) // "" if there is none
	SetNote(ctx context.Context, name, text string) error
}

// Note is a value that a kind of work remembers over restarts. Work does not fail because it cannot be read or written;
// that is logged.
type Note[T any] struct {
	name   string
	notes  Notes
	log    *slog.Logger
	newest atomic.Pointer[T]
}

// OpenNote reads what is noted under a name.
func OpenNote[T any](ctx context.Context, notes Notes, name string, log *slog.Logger) *Note[T] {
	n := &Note[T]{name: name, notes: notes, log: log}
	text, err := notes.Note(ctx, name)
	if err == nil && text != "" {
		var v T
		if err = json.Unmarshal([]byte(text), &v); err == nil {
			n.newest.Store(&v)
		}
	}
	if err != nil {
		log.Warn("the note of a job cannot be read", "note", name, "error", err)
	}
	return n
}

// Get returns what was last noted, or nil.
func (n *Note[T]) Get() *T { return n.newest.Load() }

// Set notes v.
func (n *Note[T]) Set(ctx context.Context, v T) {
	n.newest.Store(&v)
	text, err := json.Marshal(v)
	if err == nil {
		err = n.notes.SetNote(ctx, n.name, string(text))
	}
	if err != nil {
		n.log.Warn("the note of a job cannot be written", "note", n.name, "error", err)
	}
}
