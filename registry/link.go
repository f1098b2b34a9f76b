package registry

import (
	"context"
	"errors"
	"sync"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store"
)

var errOffline = hint.New(errors.New("this appliance is offline, and asks no other host"), "appliance offline off")

// link is the way to other hosts, which an administrator may cut.
type link struct {
	store *store.Store

	mu     sync.Mutex // guards the rest
	cut    bool
	online context.Context // ends when the link is cut
	end    context.CancelCauseFunc
	tell   func() // is called after each change
}

func openLink(ctx context.Context, s *store.Store) (*link, error) {
	note, err := s.Note(ctx, store.OfflineNote)
	if err != nil {
		return nil, err
	}
	l := &link{store: s, tell: func() {}}
	l.set(note != "")
	return l, nil
}

// refresh reads what another daemon of the store may have written.
func (l *link) refresh(ctx context.Context) error {
	changed, err := l.reload(ctx)
	if changed {
		l.tell()
	}
	return err
}

func (l *link) reload(ctx context.Context) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	note, err := l.store.Note(ctx, store.OfflineNote)
	if err != nil || (note != "") == l.cut {
		return false, err
	}
	l.set(note != "")
	return true, nil
}

// set is called with mu held, or before another goroutine has the link.
func (l *link) set(cut bool) {
	if l.end != nil {
		l.end(errOffline)
	}
	l.cut = cut
	l.online, l.end = context.WithCancelCause(context.Background())
	if cut {
		l.end(errOffline)
	}
}

// Gate returns an error while the link is cut.
func (l *link) Gate() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return errOffline
	}
	return nil
}

// within returns a context that ends with ctx, and when the link is cut.
func (l *link) within(ctx context.Context) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return ctx, func() {}, errOffline
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.online, func() { cancel(errOffline) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// Offline reports whether the link is cut.
func (l *link) Offline() bool { return l.Gate() != nil }

// SetOffline cuts the link, or restores it, also for later starts. Requests under way end.
func (l *link) SetOffline(ctx context.Context, cut bool) error {
	value := ""
	if cut {
		value = "on"
	}
	changed, err := l.change(ctx, cut, value)
	if changed {
		l.tell()
	}
	return err
}

func (l *link) change(ctx context.Context, cut bool, value string) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.store.SetNote(ctx, store.OfflineNote, value); err != nil {
		return false, err
	}
	if cut == l.cut {
		return false, nil
	}
	l.set(cut)
	return true, nil
}
