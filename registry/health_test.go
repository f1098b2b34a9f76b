package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// TestHealth_outOfDescriptors takes all descriptors that the process may have.
func TestHealth_outOfDescriptors(t *testing.T) {
	d := openDaemon(t, io.Discard)
	servers, err := d.listen(t.Context())
	must(t, err)
	defer func() {
		for _, s := range servers {
			must(t, s.listener.Close())
		}
	}()
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: was.Max}))
	err = d.health.alive(t.Context())
	code, a := asked(t, d.health)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was))
	if code != http.StatusOK || !a.Data.Services["disk_space"] || !a.Data.Services["web_gunicorn"] || len(a.Data.Notes) != 1 {
		t.Errorf("health is %d %+v", code, a)
	}
	if err != nil {
		t.Errorf("the watchdog would restart the daemon: %v", err)
	}
	must(t, d.health.alive(t.Context()))
}

// TestHealth_exhaustion is for checks that fail without saying why, that say so when there are
// descriptors again, and that need none.
func TestHealth_exhaustion(t *testing.T) {
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	for name, c := range map[string]struct {
		err     error
		left    bool // there are descriptors now
		healthy bool
		notes   int
	}{
		"unable to open a file, without descriptors": {errors.New("unable to open database file"), false, true, 1},
		"no descriptors a moment ago":                {syscall.EMFILE, true, true, 1},
		"none on the host a moment ago":              {syscall.ENFILE, true, true, 1},
		"nothing wrong, without descriptors":         {nil, false, true, 1},
		"another error":                              {errors.New("unable to open database file"), true, false, 0},
		"nothing wrong":                              {nil, true, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := &health{log: slog.New(slog.DiscardHandler), checks: []check{{service: "database", run: func(context.Context) error { return c.err }, vital: true}}}
			if !c.left {
				must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: was.Max}))
			}
			alive := h.alive(t.Context())
			code, a := asked(t, h)
			must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was))
			if (alive == nil) != c.healthy || (code == http.StatusOK) != c.healthy || len(a.Data.Notes) != c.notes {
				t.Errorf("alive: %v, health is %d %+v", alive, code, a)
			}
		})
	}
}

// TestHealth_full asks for the health of a registry that refuses every push.
func TestHealth_full(t *testing.T) {
	d := openDaemon(t, io.Discard)
	must(t, d.checkStorage(t.Context()))
	must(t, d.store.Close())
	const most = config.Size(1 << 60)
	var err error
	d.store, err = store.Open(t.Context(), store.Options{Database: d.cfg.Database, Storage: d.cfg.Storage, MinFree: int64(most)})
	must(t, err)
	d.closers[0] = d.store.Close
	_, refused := d.store.Uploads.New(t.Context(), "a/x")
	plainly := func(err error) string {
		return regexp.MustCompile(`\d+ bytes`).ReplaceAllString(err.Error(), "n bytes")
	} // others write to the disk too
	if err := d.checkStorage(t.Context()); err == nil || refused == nil || !strings.Contains(plainly(refused), plainly(err)) {
		t.Errorf("a push is refused with %v, the health check says %v", refused, err)
	}
}

// TestHealth_silence is for a check that does not end with its context: requests are answered all the same, and
// do not begin it again.
func TestHealth_silence(t *testing.T) {
	var began atomic.Int32
	end := make(chan struct{})
	h := &health{log: slog.New(slog.DiscardHandler), limit: 10 * time.Millisecond, checks: []check{
		{service: "database", run: func(context.Context) error {
			began.Add(1)
			<-end
			return nil
		}},
		{service: "web_gunicorn", run: func(context.Context) error { return nil }, vital: true},
	}}
	h.checks[0].server, h.checks[0].next = "postgres://login@db/appliance", pgurl.Again
	if told := failing(h.report(t.Context()))["database"]; told.Hint != pgurl.Again || told.Problem != "the database postgres://login@db/appliance is not available: no answer within 10ms" {
		t.Errorf("the first report tells %+v", told)
	}
	for range 3 {
		code, a := asked(t, h)
		if code != http.StatusServiceUnavailable || a.Data.Services["database"] || !a.Data.Services["web_gunicorn"] {
			t.Errorf("health is %d %+v", code, a)
		}
	}
	if n := began.Load(); n != 1 {
		t.Errorf("the check was begun %d times", n)
	}
	close(end)
}
