package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mirror-appliance/appliance/internal/plain"
)

var manifestLine = accessLine{
	at: time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC), method: "GET", path: "/v2/openshift/release-images/manifests/4.18.1-x86_64", status: 200,
	sent: 1234, took: 123 * time.Microsecond, user: "puller", remote: "192.0.2.1:34567", agent: "cri-o/1.31.3 go/go1.23 os/linux arch/amd64",
}

// The line is the one that slog would write, whatever clients send.
func TestAccessLog_format(t *testing.T) {
	for _, s := range []string{"", "x", "a b", "a=b", `a"b`, `a\b`, "a\nb=c", "\x1b[2J", "grüße", "世界", "a\u00a0b", "\u2028", "\u202e", "\xff", "\ufffd", "\x7f", "'<>&", strings.Repeat("long ", 100)} {
		for _, took := range []time.Duration{0, 7 * time.Microsecond, 1500 * time.Microsecond, 61 * time.Second} {
			l := manifestLine
			l.method, l.path, l.user, l.remote, l.agent, l.took = "M"+s, "/"+s, s, s+"x", s, took
			for _, timed := range []bool{false, true} {
				options := &slog.HandlerOptions{ReplaceAttr: plain.Attr}
				if !timed {
					options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
						if a.Key == slog.TimeKey {
							return slog.Attr{}
						}
						return plain.Attr(groups, a)
					}
				}
				var want bytes.Buffer
				r := slog.NewRecord(l.at, slog.LevelInfo, "request", 0)
				r.Add("method", l.method, "path", l.path, "status", l.status, "bytes", l.sent, "received", l.received, "duration", l.took,
					"user", l.user, "remote", l.remote, "agent", l.agent)
				must(t, slog.NewTextHandler(&want, options).Handle(t.Context(), r))
				if got := string(l.appendText(nil, timed)); got != want.String() {
					t.Errorf("got  %swant %s", got, &want)
				}
			}
		}
	}
}

func TestAccessLog_allocatesOnceALine(t *testing.T) {
	log, end := NewAccessLog(io.Discard, "text", true)
	defer func() { must(t, end()) }()
	logAccess(t.Context(), log, manifestLine)
	if n := testing.AllocsPerRun(1000, func() { logAccess(t.Context(), log, manifestLine) }); n > 1 {
		t.Errorf("%.1f allocations a line", n)
	}
}

// writes counts what is written at once.
type writes struct {
	mu  sync.Mutex
	all []string
	err error
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(p))
	return len(p), w.err
}

func (w *writes) n() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

func TestAccessLog_writesManyLinesAtOnce(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &writes{}
				log, end := NewAccessLog(w, format, true)
				line := func() { logAccess(t.Context(), log, manifestLine) }
				for range 10 {
					line()
				}
				if w.n() != 0 {
					t.Errorf("%d writes at once", w.n())
				}
				time.Sleep(accessDelay)
				synctest.Wait()
				if w.n() != 1 || strings.Count(w.all[0], "\n") != 10 {
					t.Errorf("after the delay: %q", w.all)
				}
				time.Sleep(10 * accessDelay)
				synctest.Wait()
				if w.n() != 1 {
					t.Errorf("%d writes without a line", w.n())
				}
				total := 10
				for w.n() < 3 { // full, without any delay
					line()
					total++
				}
				line()
				total++
				must(t, end())        // and its goroutine ends, or the bubble would not
				for late := range 2 { // what comes now does not wait
					if n := strings.Count(strings.Join(w.all, ""), "\n"); n != total+late {
						t.Errorf("%d lines of %d are written", n, total+late)
					}
					line()
				}
				must(t, end())
				for _, piece := range w.all {
					if !strings.HasSuffix(piece, "\n") || len(piece) > accessFull+1024 {
						t.Errorf("a write of %d bytes ends with %q", len(piece), piece[len(piece)-1:])
					}
				}
			})
		})
	}
}

func TestAccessLog_concurrentLinesStayWhole(t *testing.T) {
	w := &writes{}
	log, end := NewAccessLog(w, "text", false)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 500 {
				logAccess(context.Background(), log, manifestLine)
			}
		})
	}
	all.Wait()
	must(t, end())
	want := string(manifestLine.appendText(nil, false))
	if got := strings.Join(w.all, ""); got != strings.Repeat(want, 16*500) {
		t.Error("lines are lost or mixed")
	}
}

func TestAccessLog_tellsThatItCannotBeWritten(t *testing.T) {
	broken := errors.New("no space left on device")
	log, end := NewAccessLog(&writes{err: broken}, "text", false)
	logAccess(t.Context(), log, manifestLine)
	if err := end(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

// BenchmarkAccessLog compares a line at a time with what NewAccessLog does, on a file that costs a
// system call and nothing else.
func BenchmarkAccessLog(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	l := manifestLine
	b.Run("slog", func(b *testing.B) {
		log := slog.New(slog.NewTextHandler(null, &slog.HandlerOptions{ReplaceAttr: plain.Attr}))
		b.ReportAllocs()
		for b.Loop() {
			log.Info("request", "method", l.method, "path", l.path, "status", l.status, "bytes", l.sent, "received", l.received,
				"duration", l.took, "user", l.user, "remote", l.remote, "agent", l.agent)
		}
	})
	b.Run("buffered", func(b *testing.B) {
		log, end := NewAccessLog(null, "text", true)
		defer end()
		b.ReportAllocs()
		for b.Loop() {
			logAccess(b.Context(), log, l)
		}
	})
}
