// Package support is what an administrator asks a running appliance when something is wrong: what
// the daemon says of itself as findings, beside those that installer has of the host, and an archive
// of all of it for those who help.
//
// Use Ask for the first, and Bundle for the second. What goes into an archive has passed the redactor.
//
// Refused: an archive of whole directories, since a file of unknown content may hold a
// secret; sosreport and its plugins, which a host without a subscription may lack.
package support

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// Ask asks the daemon how it is, and tells what it finds. The status is nil if there is no answer.
func Ask(ctx context.Context, control *client.Client, version string, tell func(finding.Finding)) *api.Status {
	t := teller(tell)
	status, err := control.Status(ctx)
	if err != nil {
		t.failed("daemon", "", err.Error(), hint.Of(err))
		return nil
	}
	t.daemon(status, version)
	t.jobs(status, time.Now())
	t.upstreams(ctx, control, status)
	return &status
}

// Once returns the functions that tell what installer.Examine finds and then what Ask does, without what
// the former has told: where the configuration of the host cannot be used, the daemon's differs.
func Once(tell func(finding.Finding)) (examined, asked func(finding.Finding)) {
	unusable, told := false, make(map[string]bool)
	examined = func(f finding.Finding) {
		unusable = unusable || f.Check == "config" && f.Level == finding.Failed
		told[f.Text] = told[f.Text] || f.Level != finding.OK
		tell(f)
	}
	asked = func(f finding.Finding) {
		if follows := f.Check == "config" && f.Level == finding.Warning && unusable; !follows && !told[f.Text] {
			tell(f)
		}
	}
	return examined, asked
}

type teller func(finding.Finding)

func (t teller) ok(check, subject, format string, args ...any) {
	t(finding.Finding{Check: check, Subject: subject, Level: finding.OK, Text: fmt.Sprintf(format, args...)})
}

func (t teller) warn(check, subject, text, next string) {
	t(finding.Finding{Check: check, Subject: subject, Level: finding.Warning, Text: text, Hint: next})
}

func (t teller) failed(check, subject, text, next string) {
	t(finding.Finding{Check: check, Subject: subject, Level: finding.Failed, Text: text, Hint: next})
}

// daemon tells of the daemon and its database.
func (t teller) daemon(s api.Status, version string) {
	since := "since " + s.Started.Local().Format(time.DateTime)
	if s.Version == version {
		t.ok("daemon", "", "version %s runs, %s", s.Version, since)
	} else {
		t.warn("daemon", "", fmt.Sprintf("version %s runs, %s, and this program is %s", s.Version, since, version),
			"to have this one run: appliance install")
	}
	switch s.PendingConfig {
	case api.PendingNothing:
		t.ok("config", "", "what runs is what config.yaml says")
	case api.PendingReload:
		t.warn("config", "", "upstreams of config.yaml have changed since it was read", "appliance upstream reload")
	default:
		t.warn("config", "", "config.yaml has changed since the daemon was started: "+s.PendingConfig,
			"appliance config validate, then restart appliance.service")
	}
	switch {
	case !s.Services["database"]:
		t.failed("database", "", "it does not answer, or is damaged", "appliance verify; appliance restore BACKUP")
	case s.Store == nil:
		t.warn("database", "", "what it holds cannot be counted", "appliance verify")
	default:
		t.ok("database", "", "%d repositories, %d tags, %d manifests, %d blobs", s.Store.Repositories, s.Store.Tags,
			s.Store.Manifests, s.Store.Blobs)
		if n := s.Store.Quarantined; n > 0 {
			t.failed("storage", "", fmt.Sprintf("%d blobs are damaged and out of service", n), "appliance scrub")
		}
	}
	for _, name := range []string{"auth", "disk_space", "registry_gunicorn", "service_key", "web_gunicorn"} {
		if up, known := s.Services[name]; known && !up {
			t.failed("health", name, "it is not healthy", "see why: journalctl -u appliance")
		}
	}
	for _, trouble := range s.Trouble {
		t.warn("trouble", "", trouble.Problem, trouble.Hint)
	}
}

// overdue is how late a sync may be, as a multiple of its interval.
const overdue = 2

// jobs tells of collections, scrubs and syncs.
func (t teller) jobs(s api.Status, now time.Time) {
	switch r := s.LastGC; {
	case r == nil:
		t.ok("gc", "", "no collection yet")
	case r.Error != "":
		t.failed("gc", "", "the last collection, at "+r.Ended.Local().Format(time.DateTime)+", failed: "+r.Error,
			"run one now: appliance gc")
	default:
		t.ok("gc", "", "last at %s, freed %s", r.Ended.Local().Format(time.DateTime), humanize.IBytes(uint64(max(r.Bytes, 0))))
	}
	if r := s.LastScrub; r != nil && r.Damaged > r.Repaired {
		t.failed("scrub", "", fmt.Sprintf("the last one found %d damaged blobs and repaired %d", r.Damaged, r.Repaired),
			"appliance scrub names the images: mirror or push them again")
	}
	for _, m := range s.Sync {
		next := "run it now: appliance sync " + m.ImageSet
		switch r := m.Last; {
		case m.Running != nil:
			t.ok("sync", m.ImageSet, "runs since %s", m.Running.Began.Local().Format(time.DateTime))
		case r == nil && now.Sub(s.Started) > overdue*time.Duration(m.Every):
			t.warn("sync", m.ImageSet, "it has not run yet", next)
		case r == nil:
			t.ok("sync", m.ImageSet, "it has not run yet")
		case r.Error != "":
			t.failed("sync", m.ImageSet, "the last run, at "+r.Ended.Local().Format(time.DateTime)+", failed: "+r.Error, next)
		case now.Sub(r.Ended) > overdue*time.Duration(m.Every):
			t.warn("sync", m.ImageSet, "the last run was at "+r.Ended.Local().Format(time.DateTime)+", and it is to run each "+
				time.Duration(m.Every).String(), next)
		default:
			t.ok("sync", m.ImageSet, "%d of %d images at %s", r.Mirrored, r.Planned, r.Ended.Local().Format(time.DateTime))
		}
	}
}

// upstreams has the daemon ask its upstreams.
func (t teller) upstreams(ctx context.Context, control *client.Client, s api.Status) {
	if s.Offline {
		t.ok("upstream", "", "offline: none is asked")
		return
	}
	tested, err := control.TestUpstreams(ctx, api.UpstreamTest{})
	if err != nil {
		t.warn("upstream", "", "they cannot be tested: "+err.Error(), cmp.Or(hint.Of(err), "appliance upstream test"))
		return
	}
	for _, u := range tested {
		if u.Error != "" {
			t.failed("upstream", u.Prefix, u.Error, u.Hint)
			continue
		}
		t.ok("upstream", u.Prefix, "%s", strings.TrimSpace(u.URL)+" answers")
	}
}
