package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A circuit is the circuit breaker of an upstream, for all its repositories. It opens when a request
// gets no answer at all, and then none is sent for openTime: an outage costs one time-out and not
// one for each image. After that time a single request is sent, whose answer closes it. A failure
// with an answer is that of one repository, see breaker. A connection that is cut off costs no
// time-out, and a firewall may do that to one image alone: it takes those of two repositories.
//
// A request that began before the last answer came does not open it: the upstream answers others.
type circuit struct {
	name string
	now  func() time.Time
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	cause   error      // that opened it; nil: it is closed
	until   time.Time  // it is open, and no request is sent before
	probe   *attempt   // the one that is sent after that
	slow    time.Time  // until then what is held is served without a request
	answers uint64     // that came
	broken  string     // the repository whose request was cut off since
}

// retryProbe is the Retry-After while one request tries whether an upstream answers again.
const retryProbe = 5 * time.Second

// An attempt is a request to an upstream.
type attempt struct {
	repo    string
	answers uint64 // that had come when it began
}

// A downError is the answer to a request that is not sent, because its upstream did not answer another.
type downError struct {
	upstream string
	after    time.Duration
	cause    error
}

func (e *downError) Error() string {
	when := "at the next request"
	if e.after > 0 {
		when = "in " + e.after.Round(time.Second).String()
	}
	return fmt.Sprintf("%s did not answer, and is asked again %s: %s", e.upstream, when, e.reason())
}

// reason returns why there was no answer. The name of the repository that was asked for is not for
// the users of others.
func (e *downError) reason() string {
	var cause interface{ Reason() string }
	if errors.As(e.cause, &cause) {
		return cause.Reason()
	}
	return "no answer"
}

func (e *downError) Unwrap() error { return e.cause }

// Refused is as in package upstream.
func (e *downError) Refused() (status int, after time.Duration) { return 0, e.after }

// begin begins a request about a repository, or returns why none is sent.
func (c *circuit) begin(repo string) (*attempt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.down(); err != nil {
		return nil, err
	}
	a := &attempt{repo: repo, answers: c.answers}
	if c.cause != nil {
		c.probe = a
	}
	return a, nil
}

// down is refuses with mu held.
func (c *circuit) down() error {
	left := c.until.Sub(c.now())
	switch {
	case c.cause == nil || left <= 0 && c.probe == nil:
		return nil
	case left <= 0:
		left = retryProbe
	}
	return &downError{upstream: c.name, after: left, cause: c.cause}
}

// refuses returns the error of a request that would not be sent now, nil if it would be.
func (c *circuit) refuses() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down()
}

// isOpen reports whether the upstream did not answer, although one request may be due.
func (c *circuit) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause != nil
}

// trouble returns the downError of an upstream that did not answer, although one request may be due.
func (c *circuit) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		return nil
	}
	return &downError{upstream: c.name, after: max(c.until.Sub(c.now()), 0), cause: c.cause}
}

// spares reports whether what is held is served without a request.
func (c *circuit) spares() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down() != nil || c.now().Before(c.slow)
}

// end ends a request. That of a client or a Puller that ended it says nothing of the upstream.
func (c *circuit) end(ctx context.Context, a *attempt, err error) {
	var silence interface{ Silent() bool }
	silent := errors.As(err, &silence) && silence.Silent()
	switch {
	case ctx.Err() != nil:
		c.giveUp(a)
	case silent:
		c.fail(a, err)
	case err == nil || silence != nil:
		c.answer()
	default: // of this host: a file of logins that cannot be read
		c.giveUp(a)
	}
}

func (c *circuit) giveUp(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probe == a {
		c.probe = nil
	}
}

// answer closes the circuit, and returns how many answers have come.
func (c *circuit) answer() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers++
	if c.cause != nil {
		c.log.Info("upstream answers again", "upstream", c.name)
	}
	c.cause, c.probe, c.slow, c.broken = nil, nil, time.Time{}, ""
	return c.answers
}

// fail opens the circuit, unless only one repository was cut off.
func (c *circuit) fail(a *attempt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probe != a && (c.cause != nil || c.answers != a.answers) {
		return
	}
	if kindOf(err) == "broken" && c.cause == nil && (c.broken == "" || c.broken == a.repo) {
		c.broken = a.repo
		return
	}
	if c.cause == nil {
		c.log.Warn("upstream does not answer: what is stored is served, and nothing is fetched for now", "upstream", c.name, "error", err)
	}
	c.cause, c.until, c.probe = err, c.now().Add(openTime), nil
}

// came returns how many answers have come.
func (c *circuit) came() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers
}

// late notes that a client waited in vain since so many answers had come: if none came since, what
// is held is served without a request for a while. Others are sent.
func (c *circuit) late(answers uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == answers {
		c.slow = c.now().Add(openTime)
	}
}

// reset closes the circuit without an answer.
func (c *circuit) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cause, c.probe, c.slow, c.broken = nil, nil, time.Time{}, ""
}
