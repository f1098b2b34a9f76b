package registry

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"

	"github.com/mirror-appliance/appliance/registry/store"
)

// note is what a job remembers beyond a restart, as a row of the database. That it cannot be written, or read, is no
// reason for the job to fail.
type note[T any] struct {
	name   string
	store  *store.Store
	log    *slog.Logger
	newest atomic.Pointer[T]
}

// openNote reads what is noted under a name.
func openNote[T any](ctx context.Context, s *store.Store, name string, log *slog.Logger) *note[T] {
	n := &note[T]{name: name, store: s, log: log}
	text, err := s.Note(ctx, name)
	if err == nil && text != "" {
		var v T
		if err = json.Unmarshal([]byte(text), &v); err == nil {
			n.newest.Store(&v)
		}
	}
	if err != nil {
		log.Warn("what a job noted before cannot be read", "note", name, "error", err)
	}
	return n
}

// get gives what was last noted, nil if nothing was.
func (n *note[T]) get() *T { return n.newest.Load() }

func (n *note[T]) set(ctx context.Context, v T) {
	n.newest.Store(&v)
	text, err := json.Marshal(v)
	if err == nil {
		err = n.store.SetNote(ctx, n.name, string(text))
	}
	if err != nil {
		n.log.Warn("what a job wants to note cannot be written", "note", n.name, "error", err)
	}
}
