package pull

import (
	"sync"
	"time"
)

const (
	maxCached      = 4096
	maxCachedBytes = 16 << 20
)

// A cache holds answers of an upstream, with a TTL. It is bounded: clients choose the keys.
type cache[T any] struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	known map[string]cached[T]
	bytes int
}

type cached[T any] struct {
	value T
	at    time.Time
	ttl   time.Duration
	bytes int
}

func newCache[T any](now func() time.Time) *cache[T] {
	return &cache[T]{now: now, known: map[string]cached[T]{}}
}

// get returns the value of key. It is current until its TTL is over.
func (m *cache[T]) get(key string) (value T, current, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.known[key]
	return r.value, ok && r.current(m.now()), ok
}

// current reports whether the TTL is not over. A time in the future comes from a wrong
// clock and is not current.
func (r cached[T]) current(now time.Time) bool {
	age := now.Sub(r.at)
	return age >= 0 && age < r.ttl
}

// put caches a value of that many bytes.
func (m *cache[T]) put(key string, value T, ttl time.Duration, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
	if bytes > maxCachedBytes/4 {
		return
	}
	if len(m.known) >= maxCached || m.bytes+bytes > maxCachedBytes {
		m.makeRoom(bytes)
	}
	m.known[key] = cached[T]{value: value, at: m.now(), ttl: ttl, bytes: bytes}
	m.bytes += bytes
}

// makeRoom drops entries whose TTL is over, then others until a quarter is free.
func (m *cache[T]) makeRoom(bytes int) {
	now := m.now()
	for key, r := range m.known {
		if !r.current(now) {
			m.drop(key)
		}
	}
	for key := range m.known {
		if len(m.known) < maxCached*3/4 && m.bytes+bytes < maxCachedBytes*3/4 {
			return
		}
		m.drop(key)
	}
}

func (m *cache[T]) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
}

// clear forgets everything.
func (m *cache[T]) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.known)
	m.bytes = 0
}

func (m *cache[T]) drop(key string) {
	m.bytes -= m.known[key].bytes
	delete(m.known, key)
}

// keys lists the keys of current values for which which holds.
func (m *cache[T]) keys(which func(key string, value T) bool) (keys []string) {
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
