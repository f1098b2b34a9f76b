// Package retry is the policy of a client that asks again: what is worth another attempt, and
// how long to wait for it.
//
// Policy.Do repeats a function. A loop of another shape, which returns the last answer, say, uses
// Policy.Delay. Status and Passing judge a failure, and After reads Retry-After. Later is what a server
// writes there while it waits for another one, and Silence how long it waits.
//
// Refused: github.com/cenkalti/backoff. It would replace Do and half of Delay, some thirty lines.
// Its timer cannot be replaced in a test, its jitter exceeds the bound of a wait, and it neither
// reads Retry-After nor judges an error. Delays after wrong logins (registry/auth) are not
// retries and stay there.
package retry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Later is the Retry-After, in seconds, of an answer of the registry with the status 503: the database or the
// storage does not answer, and the client asks again.
const Later = "5"

// Silence is how long a database or a storage is waited for that accepts a request and then does nothing. What a server
// does that works is not bounded by it.
const Silence = 20 * time.Second

const (
	maxDelay = 30 * time.Second
	maxAfter = 24 * time.Hour
)

// Policy is the number of attempts and the delays between them.
type Policy struct {
	Attempts int           // in all
	First    time.Duration // the longest wait after the first failure; each further failure doubles it
	MaxAfter time.Duration // the longest wait that the peer can ask for; 0 ignores what it asks for
	// Again reports whether a failure may pass, and the wait that the peer asks for,
	// or 0. nil: all may.
	Again func(error) (again bool, after time.Duration)
	// Notify hears of each failure that is followed by another attempt; nil is silent.
	Notify func(failures int, err error)
	// Sleep waits, and returns early, with ctx's error, when ctx ends. nil is the function Sleep.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Do calls fn until it succeeds, fails for good, or has been called as often as the policy allows,
// and returns its last error. When ctx ends during a wait, Do returns ctx's error.
func (p Policy) Do(ctx context.Context, fn func() error) error {
	if p.Again == nil {
		p.Again = func(error) (bool, time.Duration) { return true, 0 }
	}
	if p.Sleep == nil {
		p.Sleep = Sleep
	}
	for failures := 1; ; failures++ {
		err := fn()
		if err == nil || failures >= p.Attempts || ctx.Err() != nil {
			return err
		}
		again, after := p.Again(err)
		if !again {
			return err
		}
		if p.Notify != nil {
			p.Notify(failures, err)
		}
		if err := p.Sleep(ctx, p.Delay(failures, after)); err != nil {
			return err
		}
	}
}

// Delay returns the wait before the attempt that follows failures failed ones. after is what the
// peer asked for, 0 if it did not ask.
func (p Policy) Delay(failures int, after time.Duration) time.Duration {
	if d := min(after, p.MaxAfter); d > 0 {
		return d
	}
	d := min(p.First<<min(failures-1, 10), maxDelay)
	return d/2 + rand.N(d/2+1) // jitter: many clients of one server must not come back together
}

// Sleep waits for d, or until ctx ends, and then returns ctx's error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startPatience is how long a daemon that starts waits for a server that it needs: less than systemd waits for a service
// to start, which then tries again.
const startPatience = time.Minute

// Await calls do until it succeeds, until it fails with an error for which later returns false, or for startPatience.
// later may tell of what is waited for. The context of do ends with ctx and with starting, so that the end of a start
// does not wait for a server that hangs. Without starting, do is called once.
func Await(ctx, starting context.Context, do func(context.Context) error, later func(error) bool) error {
	if starting == nil {
		return do(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(starting, cancel)()
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := do(ctx)
		if err == nil || time.Since(began)+wait > startPatience || !later(err) {
			return err
		}
		if err := Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// Status reports whether an answer of this status may be another one later.
func Status(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return code >= 520 // not standard: a network in front of the server does not reach it
}

// Passing reports whether a failure to get an answer may pass by itself. A wrong name, certificate
// or protocol does not. That a deadline passed says nothing, since net calls it so when a host
// drops packets: look at the context itself.
func Passing(err error) bool {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return false
	case errors.Is(err, http.ErrSchemeMismatch):
		return false
	case errors.As(err, &cert), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &record):
		return false
	}
	return !errors.Is(err, context.Canceled)
}

// After returns how long an answer asks to wait, 0 if it does not ask, and a day at most. It
// reads Retry-After in both forms. A date is taken relative to the server's own clock, if
// the answer has its time.
func After(resp *http.Response) time.Duration {
	header := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), maxAfter)
}
