package guard

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Sessions gives each upload session to one request at a time. The zero value is ready for use.
type Sessions struct {
	mu    sync.Mutex
	inUse map[string]chan struct{} // closed on release
}

// BusyError reports that another request is using an upload session.
type BusyError struct{ ID string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("upload %s is in use by another request", e.ID)
}

// Take takes a session, and waits up to patience for the request that has it: a client sends the next chunk as soon as it
// has read the answer to the last, while that request is still closing. *BusyError.
func (s *Sessions) Take(ctx context.Context, id string, patience time.Duration) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		released, busy := s.take(id)
		if !busy {
			return nil
		}
		select {
		case <-released:
		case <-timeout.C:
			return &BusyError{ID: id}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TryTake takes a session unless another request has it.
func (s *Sessions) TryTake(id string) bool {
	_, busy := s.take(id)
	return !busy
}

func (s *Sessions) take(id string) (released <-chan struct{}, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if released, busy := s.inUse[id]; busy {
		return released, true
	}
	if s.inUse == nil {
		s.inUse = map[string]chan struct{}{}
	}
	s.inUse[id] = make(chan struct{})
	return nil, false
}

// InUse reports whether a request has a session.
func (s *Sessions) InUse(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.inUse[id]
	return busy
}

// Release ends Take.
func (s *Sessions) Release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.inUse[id])
	delete(s.inUse, id)
}
