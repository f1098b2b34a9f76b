package pull

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
)

// checks decides what of an upstream need not be asked again: a tag within its TTL, an attachment
// that does not exist, and, while its circuit breaker or the upstream's is open, the tags of a
// repository.
type checks struct {
	store    *store.Store
	log      *slog.Logger
	now      func() time.Time
	breaker  *breaker
	absences *cache[struct{}] // attachments that do not exist
	mark     func(ctx context.Context)
}

func newChecks(s *store.Store, o Options) *checks {
	return &checks{store: s, log: o.Log, now: o.Now, breaker: newBreaker(o.Now), absences: newCache[struct{}](o.Now),
		mark: o.Unchecked}
}

// stale marks and counts an answer with what is stored, since the upstream could not be asked.
func (c *checks) stale(ctx context.Context, o origin) {
	o.peer.counts.stale.Add(1)
	c.mark(ctx)
}

// orStored returns the result of checking a stored tag, or what is stored if the check failed.
func orStored[T any](ctx context.Context, c *checks, o origin, tag string, found, stored T, err error) (T, error) {
	switch {
	case err == nil:
		if c.breaker.close(o.repo) {
			c.log.Info("upstream answers again", "repository", o.repo)
		}
		return found, nil
	case ctx.Err() != nil:
		return found, ctx.Err()
	}
	c.unanswered(ctx, o, tag, err)
	c.stale(ctx, o)
	return stored, nil
}

// settled reports whether a stored tag is served without a check: it is within its TTL, or cannot be
// checked.
func (c *checks) settled(ctx context.Context, o origin, tag string) bool {
	switch {
	case c.withinTTL(ctx, o, tag), o.held && !o.cut:
		return true
	case o.held, c.spares(o):
		c.stale(ctx, o)
		return true
	}
	return false
}

// withinTTL reports whether a tag was checked lately. A check in the future comes from a wrong clock.
func (c *checks) withinTTL(ctx context.Context, o origin, tag string) bool {
	checked, err := c.store.Tags.Checked(ctx, o.repo, tag)
	age := c.now().Sub(checked)
	return err == nil && age >= 0 && age < o.TTL
}

// checked records the check of a tag. A tag that was deleted meanwhile has no record.
func (c *checks) checked(ctx context.Context, o origin, tag string) error {
	err := c.store.Tags.SetChecked(ctx, o.repo, tag, c.now())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// spares reports whether what is stored of a repository is served without a check.
func (c *checks) spares(o origin) bool {
	return c.breaker.isOpen(o.repo) || !o.held && o.peer.spares()
}

// unanswered opens the circuit breaker of a repository, unless that of its upstream is open. Only
// the first failure of an outage is logged.
func (c *checks) unanswered(ctx context.Context, o origin, tag string, err error) {
	if o.peer.isOpen() {
		return
	}
	if first := c.breaker.open(o.repo); first {
		c.log.WarnContext(ctx, "could not ask the upstream: serving what is stored", "repository",
			o.repo, "tag", tag, "error", err)
	}
}

func absent(tag string) error { return &store.NotFoundError{Kind: "manifest", Name: tag} }

func (c *checks) isAbsent(o origin, tag string) bool {
	if o.held {
		return true
	}
	_, current, _ := c.absences.get(o.repo + ":" + tag)
	return current || c.spares(o)
}

// absentUnless turns an error of the upstream into "not found" and caches it.
func (c *checks) absentUnless(ctx context.Context, o origin, tag string, err error) error {
	var ours *storeError
	if err == nil || errors.As(err, &ours) || errors.Is(err, errClosed) {
		return err
	}
	if !c.isAbsent(o, tag) {
		c.absences.put(o.repo+":"+tag, struct{}{}, c.retryAfter(ctx, o, tag, err), 0)
	}
	return absent(tag)
}

// retryAfter records that an upstream did not answer, and returns how long it is not asked again.
func (c *checks) retryAfter(ctx context.Context, o origin, name string, err error) time.Duration {
	var answer interface {
		Refused() (status int, after time.Duration)
		Answered() bool
	}
	if errors.Is(err, store.ErrNotFound) {
		return o.TTL
	}
	if !errors.As(err, &answer) || !answer.Answered() {
		c.unanswered(ctx, o, name, err)
		return openTime
	}
	if status, _ := answer.Refused(); status != 0 && status != http.StatusTooManyRequests {
		return o.TTL
	}
	c.log.WarnContext(ctx, "upstream does not list attachments: serving what is stored",
		"repository", o.repo, "name", name, "error", err)
	return openTime
}

const (
	// openTime is how long the tags of a repository are served unchecked after a failed check, and an
	// upstream that does not answer is not asked, so that an outage costs one wait and not one for
	// each request.
	openTime = 30 * time.Second
	// maxOpen bounds the repositories in a breaker.
	maxOpen = 1024
)

// A breaker is the circuit breaker between stored content and an upstream that answers with failures,
// or in time to others only, by repository.
type breaker struct {
	now func() time.Time

	mu    sync.Mutex           // guards until
	until map[string]time.Time // the breaker of the repository is open
}

func newBreaker(now func() time.Time) *breaker {
	return &breaker{now: now, until: make(map[string]time.Time)}
}

func (b *breaker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.until)
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
