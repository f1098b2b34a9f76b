//go:build several

package main_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// next returns when a daemon shows that a collection, a scrub and a run begin next; zero: it shows none.
func (f *faulty) next(t *testing.T) (all [3]time.Time) {
	t.Helper()
	now, err := f.admin.Status(t.Context())
	must(t, err)
	for i, at := range []*time.Time{now.NextGC, now.NextScrub, &now.Sync[0].Next} {
		if at != nil {
			all[i] = *at
		}
	}
	return all
}

// note returns a note that the daemons share.
func (f *together) note(t *testing.T, name string) (text string) {
	t.Helper()
	db, err := sql.Open("pgx", f.server)
	must(t, err)
	defer db.Close() //nolint:errcheck // it has read what it should
	must(t, db.QueryRowContext(t.Context(), `SELECT value FROM meta WHERE name = $1`, name).Scan(&text))
	return text
}

// When scheduled work begins next is the same at all daemons, and work on request puts it off at any of them.
func TestSeveral_next(t *testing.T) {
	f := newTogether(t, 2)
	set := filepath.Join(t.TempDir(), "set.yaml")
	must(t, os.WriteFile(set, []byte(imageSetOf("registry.example.com/of/set:v1")), 0o644))
	f.mirrors(t, set, 24*time.Hour)
	same := func(what string, ok func(all [3]time.Time) bool) (all [3]time.Time) {
		t.Helper()
		eventuallyHolds(t, "both daemons show the same "+what, func() bool {
			all = f.daemons[0].next(t)
			return ok(all) && all == f.daemons[1].next(t)
		})
		return all
	}
	was := same("at first", func(all [3]time.Time) bool {
		return !all[0].IsZero() && !all[1].IsZero() && !all[2].IsZero()
	})
	for _, d := range f.daemons {
		_, err := d.admin.GC(t.Context(), api.GCRequest{}, nil)
		must(t, err)
		now := same("after a collection", func(all [3]time.Time) bool { return all[0].After(was[0]) })
		if now[1] != was[1] || now[2] != was[2] {
			t.Errorf("after a collection a scrub and a run begin at %s, and before at %s", now[1:], was[1:])
		}
		was = now
	}

	first := newSite(t)
	ca, err := os.ReadFile(first.cfg.TLS.CA)
	must(t, err)
	_, err = f.daemons[0].admin.Follow(t.Context(), api.FollowRequest{Address: first.address, User: "admin", Password: faultPassword, CA: string(ca)})
	must(t, err)
	if kept := f.note(t, "role"); !strings.Contains(kept, first.address) || strings.Contains(kept, faultPassword) {
		t.Errorf("the database keeps %s", kept)
	}
	now := same("once they follow", func(all [3]time.Time) bool { return all[2].IsZero() })
	if now[0].IsZero() || now[1].IsZero() {
		t.Errorf("a follower collects and scrubs at %s", now[:2])
	}
	for _, d := range f.daemons {
		d.stop(t)
	}
}
