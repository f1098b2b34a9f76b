package throttle

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	p := New(1 << 10)
	if err := p(ctx, Buffer); err != nil {
		t.Fatalf("the first read waits: %v", err)
	}
	// A limiter refuses at once what cannot be had before the deadline: at 1 KiB a
	// second this takes 32 s.
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := p(short, Buffer); err == nil {
		t.Error("the second read does not wait")
	}
}

func TestCopy(t *testing.T) {
	content := strings.Repeat("0123456789", Buffer/4)
	var got strings.Builder
	most := 0
	p := func(_ context.Context, n int) error { most = max(most, n); return nil }
	if n, err := Copy(t.Context(), &got, strings.NewReader(content), p); err != nil || n != int64(len(content)) || got.String() != content {
		t.Errorf("%d bytes were copied, %v", n, err)
	}
	if most != Buffer {
		t.Errorf("%d bytes were read at a time", most)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Copy(ctx, io.Discard, strings.NewReader(content), New(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}
