package retry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

func TestPolicy_Delay_growsAndIsBounded(t *testing.T) {
	p := retry.Policy{First: 500 * time.Millisecond}
	for failures := 1; failures < 100; failures++ {
		most := min(p.First<<min(failures-1, 10), 30*time.Second)
		if d := p.Delay(failures, time.Hour); d < most/2 || d > most {
			t.Errorf("wait %d was %v, want %v at most", failures, d, most)
		}
	}
	p.MaxAfter = time.Minute
	for after, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Hour: time.Minute} {
		if d := p.Delay(9, after); d != want {
			t.Errorf("waits %v when asked to wait %v, want %v", d, after, want)
		}
	}
}

func TestPolicy_Do(t *testing.T) {
	failure, final := errors.New("failure"), errors.New("final failure")
	for name, test := range map[string]struct {
		answers []error
		want    error
		calls   int
	}{
		"success is not repeated":           {[]error{nil}, nil, 1},
		"a failure is, until it succeeds":   {[]error{failure, failure, nil}, nil, 3},
		"so often and no more":              {[]error{failure, failure, failure, nil}, failure, 3},
		"what is final ends it":             {[]error{failure, final, nil}, final, 2},
		"the last failure is what it tells": {[]error{failure, failure, final}, final, 3},
	} {
		t.Run(name, func(t *testing.T) {
			calls, told := 0, 0
			var waits []time.Duration
			err := retry.Policy{
				Attempts: 3, First: time.Second, MaxAfter: time.Minute,
				Again:  func(err error) (bool, time.Duration) { return err == failure, 7 * time.Second },
				Notify: func(failures int, _ error) { told = failures },
				Sleep:  func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil },
			}.Do(t.Context(), func() error { calls++; return test.answers[calls-1] })
			if err != test.want || calls != test.calls || told != calls-1 || len(waits) != calls-1 {
				t.Errorf("%v after %d calls, %d notices and waits %v; want %v after %d", err, calls, told, waits, test.want, test.calls)
			}
			if slices.ContainsFunc(waits, func(d time.Duration) bool { return d != 7*time.Second }) {
				t.Errorf("waited %v, want what was asked for", waits)
			}
		})
	}
}

func TestPolicy_Do_endsWithItsContext(t *testing.T) {
	failure := errors.New("failure")
	for name, test := range map[string]struct {
		during string
		want   error
	}{"a call": {"call", failure}, "a wait": {"wait", context.Canceled}} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		err := retry.Policy{
			Attempts: 3, First: time.Hour,
			Notify: func(int, error) {
				if test.during == "wait" {
					cancel()
				}
			},
		}.Do(ctx, func() error {
			if test.during == "call" {
				cancel()
			}
			calls++
			return failure
		})
		cancel()
		if !errors.Is(err, test.want) || calls != 1 {
			t.Errorf("%s: %v after %d calls", name, err, calls)
		}
	}
}

// The end of a start does not wait for an attempt that hangs.
func TestAwait_endsWithTheStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	starting, end := context.WithCancel(t.Context())
	calls := 0
	hangs := func(ctx context.Context) error { calls++; end(); <-ctx.Done(); return ctx.Err() }
	err := retry.Await(ctx, starting, hangs, func(error) bool { return false })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestStatus(t *testing.T) {
	for code := range 600 {
		want := slices.Contains([]int{408, 429, 500, 502, 503, 504}, code) || code >= 520
		if got := retry.Status(code); got != want {
			t.Errorf("%d: got %v", code, got)
		}
	}
}

func TestPassing(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"no such host":          {&net.DNSError{IsNotFound: true}, false},
		"no answer from DNS":    {&net.DNSError{IsTimeout: true}, true},
		"called off":            {context.Canceled, false},
		"a deadline":            {context.DeadlineExceeded, true},
		"reset":                 {errors.New("connection reset by peer"), true},
		"plain HTTP over there": {tls.RecordHeaderError{Msg: "x"}, false},
		"the other scheme":      {fmt.Errorf("https is not used: %w", http.ErrSchemeMismatch), false},
		"an unknown authority":  {x509.UnknownAuthorityError{}, false},
		"another host's name":   {x509.HostnameError{Certificate: &x509.Certificate{}}, false},
		"wrapped":               {fmt.Errorf("get: %w", &tls.CertificateVerificationError{Err: errors.New("x")}), false},
	} {
		if got := retry.Passing(test.err); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAfter(t *testing.T) {
	const date = "Mon, 02 Jan 2006 15:04:05 GMT"
	for _, test := range []struct {
		after, date string
		want        time.Duration
	}{
		{"", date, 0},
		{"soon", date, 0},
		{"17", "", 17 * time.Second},
		{"-17", "", 0},
		{"9223372036854775807", "", 24 * time.Hour},
		{"Mon, 02 Jan 2006 15:04:35 GMT", date, 30 * time.Second},
		{"Mon, 02 Jan 2006 15:04:00 GMT", date, 0},
		{"Mon, 02 Jan 2006 15:04:35 GMT", "", 0}, // which is past
		{"Mon, 02 Jan 2007 15:04:35 GMT", date, 24 * time.Hour},
	} {
		resp := &http.Response{Header: http.Header{"Retry-After": {test.after}, "Date": {test.date}}}
		if got := retry.After(resp); got != test.want {
			t.Errorf("%q at %q: got %v, want %v", test.after, test.date, got, test.want)
		}
	}
}
