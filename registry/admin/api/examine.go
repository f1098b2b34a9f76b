package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/pgurl"
)

// Examine tells what of a status is as it should be, and what is not, with what to type.
func (s Status) Examine(now time.Time, tell func(finding.Finding)) {
	t := teller{tell}
	if s.Waiting != nil {
		t.waiting(*s.Waiting)
		return
	}
	t.daemon(s)
	t.family(s, now)
	t.jobs(s, now)
}

type teller struct{ finding.Teller }

// waiting tells what the start of the daemon waits for.
func (t teller) waiting(w Waiting) {
	t.Fail(w.For, w.Name, "the start of the registry waits for it since "+w.Since.Local().Format(time.DateTime)+": "+w.Problem(), w.Hint)
}

// daemon tells of the daemon and its database.
func (t teller) daemon(s Status) {
	switch s.PendingConfig {
	case PendingNothing:
		t.OK("config", "", "what runs is what config.yaml says")
	case PendingReload:
		t.Warn("config", "", "upstreams of config.yaml have changed since it was read", "appliance upstream reload")
	default:
		t.Warn("config", "", "config.yaml has changed since the daemon was started: "+s.PendingConfig,
			"appliance config validate, then restart appliance.service")
	}
	switch {
	case !s.Services["database"] && pgurl.Is(s.Database):
		f := s.Failing["database"]
		t.Fail("database", s.Database, cmp.Or(f.Problem, "it does not answer"), cmp.Or(f.Hint, pgurl.Again))
	case !s.Services["database"]:
		t.Fail("database", "", cmp.Or(s.Failing["database"].Problem, "it does not answer, or is damaged"), "appliance verify; appliance restore BACKUP")
	case s.Store == nil:
		t.Warn("database", "", "what it holds cannot be counted", "appliance verify")
	default:
		t.OK("database", "", "%d repositories, %d tags, %d manifests, %d blobs", s.Store.Repositories, s.Store.Tags,
			s.Store.Manifests, s.Store.Blobs)
		if n := s.Store.Quarantined; n > 0 {
			t.Fail("storage", "", fmt.Sprintf("%d blobs are damaged and out of service", n), "appliance scrub")
		}
	}
	for _, name := range []string{"auth", "disk_space", "registry_gunicorn", "service_key", "web_gunicorn"} {
		if up, known := s.Services[name]; known && !up {
			f := s.Failing[name]
			t.Fail("health", name, cmp.Or(f.Problem, "it is not healthy"), cmp.Or(f.Hint, "see why: journalctl -u appliance"))
		}
	}
	told := slices.Collect(maps.Values(s.Failing))
	for _, trouble := range s.Trouble {
		if slices.Contains(told, trouble) {
			continue
		}
		t.Warn("trouble", "", trouble.Problem, trouble.Hint)
	}
}

// overdue is how late a sync may be, as a multiple of its interval.
const overdue = 2

// jobs tells of collections, scrubs and syncs.
func (t teller) jobs(s Status, now time.Time) {
	switch r := s.LastGC; {
	case r == nil && s.Services["database"]: // which has the last one
		t.OK("gc", "", "no collection yet")
	case r == nil:
	case r.Error != "":
		t.Fail("gc", "", "the last collection, at "+r.Ended.Local().Format(time.DateTime)+", failed: "+r.Error,
			"run one now: appliance gc")
	default:
		t.OK("gc", "", "last at %s, freed %s", r.Ended.Local().Format(time.DateTime), humanize.IBytes(uint64(max(r.Bytes, 0))))
	}
	if r := s.LastScrub; r != nil && r.Damaged > r.Repaired {
		t.Fail("scrub", "", fmt.Sprintf("the last one found %d damaged blobs and repaired %d", r.Damaged, r.Repaired),
			"appliance scrub names the images: mirror or push them again")
	}
	for _, m := range s.Sync {
		next := "run it now: appliance sync " + m.ImageSet
		switch r := m.Last; {
		case m.Running != nil:
			t.OK("sync", m.ImageSet, "runs since %s", m.Running.Began.Local().Format(time.DateTime))
		case r == nil && now.Sub(s.Started) > overdue*time.Duration(m.Every):
			t.Warn("sync", m.ImageSet, "it has not run yet", next)
		case r == nil:
			t.OK("sync", m.ImageSet, "it has not run yet")
		case r.Error != "":
			t.Fail("sync", m.ImageSet, "the last run, at "+r.Ended.Local().Format(time.DateTime)+", failed: "+r.Error, next)
		case now.Sub(r.Ended) > overdue*time.Duration(m.Every):
			t.Warn("sync", m.ImageSet, "the last run was at "+r.Ended.Local().Format(time.DateTime)+", and it is to run each "+
				time.Duration(m.Every).String(), next)
		default:
			t.OK("sync", m.ImageSet, "%d of %d images at %s", r.Mirrored, r.Planned, r.Ended.Local().Format(time.DateTime))
		}
	}
}
