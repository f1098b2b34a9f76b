package systemd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// notifications are what arrives at a notification socket, as systemd would have it.
func notifications(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func next(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotify(t *testing.T) {
	conn := notifications(t)
	for want, send := range map[string]func() error{
		"READY=1":               NotifyReady,
		"STOPPING=1":            NotifyStopping,
		"STATUS=two lines here": func() error { return NotifyStatus("two\nlines  here\n") },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if got := next(t, conn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNotify_WithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := errors.Join(NotifyReady(), NotifyStatus("x")); err != nil {
		t.Error(err)
	}
}

func TestNotify_SocketGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if NotifyReady() == nil {
		t.Error("nobody heard it, and no error")
	}
}

func TestWatchdog(t *testing.T) {
	conn := notifications(t)
	tick, ended := make(chan time.Time), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan error, 1)
	answers <- nil
	go func() {
		ended <- guard(ctx, time.Hour, tick, func(context.Context) error { return <-answers })
	}()
	for _, step := range []struct {
		sends []string
		next  error
	}{
		{[]string{"WATCHDOG=1"}, errors.New("the database\nis gone")},
		{[]string{"STATUS=not alive: the database is gone"}, nil},
		{[]string{"WATCHDOG=1", "STATUS=alive again"}, nil},
		{[]string{"WATCHDOG=1"}, nil},
	} {
		for _, want := range step.sends {
			if got := next(t, conn); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		answers <- step.next
		tick <- time.Time{}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatchdog_NoAnswerIsNotAlive(t *testing.T) {
	conn := notifications(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Watchdog(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	if got, want := next(t, conn), "STATUS=not alive: context deadline exceeded"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // it says so again and again, and would wait for room in the socket
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatchdog_NotSet(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	err := Watchdog(t.Context(), func(context.Context) error { t.Error("asked"); return nil })
	if err != nil {
		t.Error(err)
	}
}

func TestWatchdog_OfAnotherProcess(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	err := Watchdog(t.Context(), func(context.Context) error { t.Error("asked"); return nil })
	if err != nil {
		t.Error(err)
	}
}
