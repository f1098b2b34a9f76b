package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// opened is an audit in a real store, with the journal beside it.
type opened struct {
	*Log
	kept    *store.Audit
	journal *journal
	log     *slog.Logger // of auth, oci and admin
}

// journal is a buffer that goroutines share.
type journal struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.String()
}

// fullDisk is a store that can be full.
type fullDisk struct {
	Store
	full  atomic.Bool
	tries atomic.Int64
}

func (f *fullDisk) Add(ctx context.Context, all []store.AuditRecord) error {
	f.tries.Add(1)
	if f.full.Load() {
		return errors.New("the disk is full")
	}
	return f.Store.Add(ctx, all)
}

func open(t *testing.T, wrap func(Store) Store, level slog.Level) *opened {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{kept: s.Audit, journal: new(journal)}
	next := slog.NewTextHandler(o.journal, &slog.HandlerOptions{Level: level})
	o.Log = Open(context.WithoutCancel(t.Context()), wrap(s.Audit), slog.New(next))
	o.log = slog.New(o.Handler(next))
	t.Cleanup(func() {
		if err := errors.Join(o.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return o
}

func same(s Store) Store { return s }

// events returns the events of a part of the audit, as the API gives it.
func (o *opened) events(t *testing.T, q api.AuditRequest) string {
	t.Helper()
	page, err := o.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range page.Records {
		all = append(all, r.Event)
	}
	return strings.Join(all, " ")
}

func TestHandler(t *testing.T) {
	o := open(t, same, slog.LevelInfo)
	o.log.Info("audit", "event", "push", "user", "ci", "remote", "192.0.2.1:5", "repository", "a/b", "tags", "v1", "digest", "")
	o.log.With("event", "user created", "user", "init", "remote", "@").Info("audit", "name", "new\xff", "role", strings.Repeat("x", 5000))
	o.log.Warn("audit", "event", "login failed", "user", "x", "remote", "192.0.2.9:1", "method", "GET", "path", "/v2/")
	o.log.Info("request", "event", "none")
	page, err := o.List(t.Context(), api.AuditRequest{})
	if err != nil || len(page.Records) != 3 {
		t.Fatalf("%+v, %v", page, err)
	}
	failed, created, push := page.Records[0], page.Records[1], page.Records[2]
	if failed.Kind != api.AuditAccess || failed.Outcome != api.AuditRefused || failed.Details["path"] != "/v2/" || failed.User != "x" {
		t.Errorf("failed login: %+v", failed)
	}
	if created.Kind != api.AuditControl || created.Details["name"] != "new\uFFFD" || len(created.Details["role"]) > 1010 || created.User != "init" || created.Remote != "@" {
		t.Errorf("user created: %+v", created)
	}
	if push.Kind != api.AuditContent || push.Outcome != api.AuditDone || push.User != "ci" || push.Remote != "192.0.2.1:5" ||
		len(push.Details) != 2 || time.Since(push.Time) > time.Minute {
		t.Errorf("push: %+v", push)
	}
	if n := strings.Count(o.journal.String(), "\n"); n != 4 {
		t.Errorf("the journal has %d lines:\n%s", n, o.journal.String())
	}
}

// A journal of errors only does not end the audit.
func TestHandler_level(t *testing.T) {
	o := open(t, same, slog.LevelError)
	o.log.Info("audit", "event", "push")
	o.log.Info("other")
	if got := o.events(t, api.AuditRequest{}); got != "push" || o.journal.String() != "" {
		t.Errorf("%q is kept; the journal has %q", got, o.journal.String())
	}
}

func TestLog_List(t *testing.T) {
	o := open(t, same, slog.LevelInfo)
	for _, event := range []string{"a", "b", "c", "d", "e"} {
		o.log.Info("audit", "event", event)
	}
	page, err := o.List(t.Context(), api.AuditRequest{Limit: 2})
	if err != nil || len(page.Records) != 2 || page.Next == 0 {
		t.Fatalf("%+v, %v", page, err)
	}
	if got := o.events(t, api.AuditRequest{Limit: 3, After: page.Next}); got != "c b a" {
		t.Errorf("what follows: %q", got)
	}
	if page, err = o.List(t.Context(), api.AuditRequest{Limit: 5}); err != nil || page.Next != 0 {
		t.Errorf("all at once: %+v, %v", page, err)
	}
}

func TestLog_Close(t *testing.T) {
	o := open(t, same, slog.LevelInfo)
	o.log.Info("audit", "event", "last")
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := o.kept.List(t.Context(), store.AuditFilter{}, 9)
	if err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// What comes while the disk is full is kept once it is not, as much as the queue takes; the rest is counted.
func TestLog_fullDisk(t *testing.T) {
	disk := &fullDisk{}
	disk.full.Store(true)
	o := open(t, func(s Store) Store { disk.Store = s; return disk }, slog.LevelError)
	for range queueMost + 7 {
		o.log.Info("audit", "event", "push")
	}
	page, err := o.List(t.Context(), api.AuditRequest{})
	if err != nil || len(page.Records) != 0 || page.Lost != 7 {
		t.Fatalf("full: %d records, %d lost, %v", len(page.Records), page.Lost, err)
	}
	disk.full.Store(false)
	if page, err = o.List(t.Context(), api.AuditRequest{Limit: 1000}); err != nil || len(page.Records) != 1000 || o.Lost() != 7 {
		t.Errorf("not full: %d records, %d lost, %v", len(page.Records), page.Lost, err)
	}
	if all, err := o.kept.List(t.Context(), store.AuditFilter{}, queueMost+1); err != nil || len(all) != queueMost {
		t.Errorf("%d records are kept, %v", len(all), err)
	}
	if got := o.journal.String(); !strings.Contains(got, "lost=7") {
		t.Errorf("the journal has %q", got)
	}
}

// A disk that stays full is tried again now and then, and not all the time.
func TestLog_retries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fullDisk{Store: memory{}}
		disk.full.Store(true)
		journal := new(journal)
		l := Open(context.Background(), disk, slog.New(slog.NewTextHandler(journal, nil)))
		slog.New(l.Handler(slog.DiscardHandler)).Info("audit", "event", "push")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := disk.tries.Load(); n < 15 || n > 25 {
			t.Errorf("%d tries in ten minutes", n)
		}
		if got := journal.String(); !strings.Contains(got, "the disk is full") || !strings.Contains(got, "waiting=1") || strings.Contains(got, "lost") {
			t.Errorf("while a record waits the journal has %q", got)
		}
		if err := l.Close(); err != nil || l.Lost() != 1 {
			t.Errorf("Close: %v, %d lost", err, l.Lost())
		}
		if got := journal.String(); !strings.Contains(got, "lost=1") {
			t.Errorf("after Close the journal has %q", got)
		}
	})
}

// memory is a store for the synthetic time, in which a database cannot wait.
type memory struct{ Store }

func (memory) Trim(context.Context, string, int, time.Time) (int64, error) { return 0, nil }
