package pull

import (
	"sync"
	"time"
)

const (
	maxRemembered      = 4096
	maxRememberedBytes = 16 << 20
)

// A memory remembers what an upstream has said, for a time and within bounds: as many different things may be asked for
// as a client likes.
type memory[T any] struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	known map[string]remembered[T]
	bytes int
}

type remembered[T any] struct {
	value T
	at    time.Time
	ttl   time.Duration
	bytes int
}

func newMemory[T any](now func() time.Time) *memory[T] {
	return &memory[T]{now: now, known: map[string]remembered[T]{}}
}

// get returns what is known under key. It is current until its time has passed.
func (m *memory[T]) get(key string) (value T, current, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.known[key]
	return r.value, ok && r.current(m.now()), ok
}

// current reports whether r can still be told; what was learned in the future was learned by a clock that was wrong.
func (r remembered[T]) current(now time.Time) bool {
	age := now.Sub(r.at)
	return age >= 0 && age < r.ttl
}

// put remembers value, which takes so many bytes, for ttl.
func (m *memory[T]) put(key string, value T, ttl time.Duration, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
	if bytes > maxRememberedBytes/4 {
		return
	}
	if len(m.known) >= maxRemembered || m.bytes+bytes > maxRememberedBytes {
		m.makeRoom(bytes)
	}
	m.known[key] = remembered[T]{value: value, at: m.now(), ttl: ttl, bytes: bytes}
	m.bytes += bytes
}

// makeRoom drops what is not current, and of the others as many as it takes for a while.
func (m *memory[T]) makeRoom(bytes int) {
	now := m.now()
	for key, r := range m.known {
		if !r.current(now) {
			m.drop(key)
		}
	}
	for key := range m.known {
		if len(m.known) < maxRemembered*3/4 && m.bytes+bytes < maxRememberedBytes*3/4 {
			return
		}
		m.drop(key)
	}
}

func (m *memory[T]) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
}

func (m *memory[T]) drop(key string) {
	m.bytes -= m.known[key].bytes
	delete(m.known, key)
}

// keys lists the keys whose values are current and which.
func (m *memory[T]) keys(which func(key string, value T) bool) (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for key, r := range m.known {
		if r.current(now) && which(key, r.value) {
			keys = append(keys, key)
		}
	}
	return keys
}
