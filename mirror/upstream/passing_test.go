package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// dropped is the error of package net for a host that drops packets.
func dropped() error {
	_, err := (&net.Dialer{Deadline: time.Unix(1, 0)}).Dial("tcp", "127.0.0.1:1")
	return err
}

// droppingWire does not answer.
type droppingWire struct {
	attempts int
	then     func() // after each
}

func (w *droppingWire) RoundTrip(*http.Request) (*http.Response, error) {
	w.attempts++
	w.then()
	return nil, dropped()
}

func TestRetryTransport_droppedPackets(t *testing.T) {
	for name, test := range map[string]struct {
		givesUp bool
		want    int
	}{
		"are retried":                     {false, 3},
		"are not after the context's end": {true, 1},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wire := &droppingWire{then: func() {
			if test.givesUp {
				cancel()
			}
		}}
		noWait := func(context.Context, time.Duration) error { return nil }
		transport := &retryTransport{retrier: &retrier{attempts: 3, sleep: noWait, idle: noIdle, log: slog.New(slog.DiscardHandler)}, inner: wire}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://registry.test/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transport.RoundTrip(r); err == nil || wire.attempts != test.want {
			t.Errorf("%s: %d attempts, want %d; error %v", name, wire.attempts, test.want, err)
		}
	}
}

func noIdle(ctx context.Context, wait func(context.Context) error) error { return wait(ctx) }
