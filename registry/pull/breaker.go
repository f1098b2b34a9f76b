package pull

import (
	"sync"
	"time"
)

const (
	// openTime is how long the tags of a repository are served unchecked after a failed check, so that an outage costs
	// one wait and not one for each request.
	openTime = 30 * time.Second
	// maxOpen bounds the repositories in a breaker.
	maxOpen = 1024
)

// A breaker is the circuit breaker between stored content and an upstream that does not answer, by repository.
type breaker struct {
	now func() time.Time

	mu    sync.Mutex           // guards until
	until map[string]time.Time // the breaker of the repository is open
}

func newBreaker(now func() time.Time) *breaker {
	return &breaker{now: now, until: make(map[string]time.Time)}
}

func (b *breaker) isOpen(repo string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now().Before(b.until[repo])
}

// open reports whether this failure is the first since the last answer.
func (b *breaker) open(repo string) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.until[repo]
	if len(b.until) >= maxOpen {
		clear(b.until)
	}
	b.until[repo] = b.now().Add(openTime)
	return !known
}

// close reports whether there was a failure before this answer.
func (b *breaker) close(repo string) (failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, failed = b.until[repo]
	delete(b.until, repo)
	return failed
}
