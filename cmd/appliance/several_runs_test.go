//go:build several

package main_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

// state returns what a daemon tells of its only image set.
func (f *faulty) state(t *testing.T) api.MirrorState {
	t.Helper()
	all, err := f.admin.Mirrors(t.Context())
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("it has the image sets %+v", all)
	}
	return all[0]
}

// mirrors has all daemons mirror one image set, from their next start on.
func (f *together) mirrors(t *testing.T, set string, every time.Duration) {
	t.Helper()
	for _, d := range f.daemons {
		d.cfg.Sync = []config.Sync{{ImageSet: set, Workspace: filepath.Join(d.root, "sync"), Interval: every}}
		text, err := d.cfg.Marshal()
		must(t, err)
		must(t, os.WriteFile(config.Path(d.root), text, 0o644))
		d.stop(t)
	}
	for _, d := range f.daemons {
		d.start(t)
	}
}

// onRequest has one daemon run an image set, whose registry answers nothing, and the other end it.
func (f *together) onRequest(t *testing.T, set, host string) {
	one, other := f.daemons[0], f.daemons[1]
	must(t, one.admin.BeginMirror(t.Context(), set))
	eventuallyHolds(t, "the other daemon shows the run", func() bool { return other.state(t).Running != nil })
	if at := other.state(t).Running.Host; at != host {
		t.Errorf("it is done on host %q, not %q", at, host)
	}
	if at := one.state(t).Running.Host; at != "" {
		t.Errorf("the daemon that does it shows host %q", at)
	}
	if status, err := other.admin.Status(t.Context()); err != nil || len(status.Sync) != 1 || status.Sync[0].Running == nil {
		t.Errorf("the status of the other one: %+v, %v", status.Sync, err)
	}
	if err := other.admin.BeginMirror(t.Context(), set); err == nil || !strings.Contains(err.Error(), "is under way already, by the daemon on host "+host) {
		t.Errorf("a second one: %v", err)
	}
	must(t, other.admin.StopMirror(t.Context(), api.MirrorStop{ImageSet: set}))
	eventuallyHolds(t, "the run is ended", func() bool { return one.state(t).Running == nil && other.state(t).Running == nil })
	if last := other.state(t).Last; last != nil {
		t.Errorf("a run that was ended has the result %+v", last)
	}
}

// plainUpstream starts a sample upstream, which daemons that start later reach without TLS.
func plainUpstream(t *testing.T) (source string) {
	t.Helper()
	_, source = newUpstream(t)
	conf := filepath.Join(t.TempDir(), "registries.conf")
	must(t, os.WriteFile(conf, []byte("[[registry]]\nlocation = \""+source+"\"\ninsecure = true\n"), 0o644))
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	return source
}

// catalogs has one daemon read catalogs at their registries, and the other end that, and list what was read.
func (f *together) catalogs(t *testing.T, hanging, source, host string) {
	one, other := f.daemons[0].admin, f.daemons[1].admin
	reached := func(c *client.Client) api.ReachedCatalogs {
		t.Helper()
		now, err := c.Reached(t.Context())
		must(t, err)
		return now
	}
	mute := api.CatalogRead{Catalog: hanging + "/a/b:v1"}
	must(t, one.BeginReadCatalog(t.Context(), mute))
	eventuallyHolds(t, "the other daemon shows the reading", func() bool { return reached(other).Running != nil })
	if now := reached(other).Running; now.Host != host || now.Catalog != mute.Catalog {
		t.Errorf("the other daemon shows %+v", now)
	}
	if err := other.BeginReadCatalog(t.Context(), mute); err == nil || !strings.Contains(err.Error(), "is under way already, by the daemon on host "+host) {
		t.Errorf("a second one: %v", err)
	}
	must(t, other.StopReading(t.Context()))
	eventuallyHolds(t, "the reading is ended", func() bool { return reached(one).Running == nil && reached(other).Running == nil })

	good := source + "/redhat/redhat-operator-index:v4.18"
	for i, name := range []string{source + "/redhat/absent:v1", good} {
		must(t, other.BeginReadCatalog(t.Context(), api.CatalogRead{Catalog: name}))
		eventuallyHolds(t, "both have what was read", func() bool {
			now := reached(one)
			return now.Running == nil && len(now.Read) == i+1 && now.Read[0].Catalog == name && reached(other).Running == nil
		})
	}
	if now, same := reached(one).Read, reached(other).Read; now[0].Packages < 2 || now[0].Digest == "" || now[1].Error == nil || !reflect.DeepEqual(now, same) {
		t.Errorf("one daemon has %+v (%+v), the other %+v", now, now[0].Error, same)
	}
	q := api.ReachedPackagesRequest{Catalog: good, Page: api.Page{Search: "DATA"}}
	want, err := other.ReachedPackages(t.Context(), q)
	must(t, err)
	if got, err := one.ReachedPackages(t.Context(), q); err != nil || len(got.Packages) != 1 || !reflect.DeepEqual(got, want) {
		t.Errorf("one daemon finds %+v, %v, the other %+v", got, err, want)
	}
}

// ownFiles has a daemon lack files that the other one has.
func (f *together) ownFiles(t *testing.T, set, host string) {
	one, other := f.daemons[0], f.daemons[1]
	must(t, one.admin.BeginMirror(t.Context(), set))
	eventuallyHolds(t, "both have the result", func() bool { return one.state(t).Last != nil && other.state(t).Last != nil })
	if last := other.state(t).Last; last.Host != host || last.Error == "" {
		t.Errorf("a run that failed has the result %+v", last)
	}
	must(t, os.Rename(set, set+".away"))
	defer func() { must(t, os.Rename(set+".away", set)) }()
	trouble := other.state(t).Trouble
	if trouble == nil || !strings.Contains(trouble.Problem, "host "+host+" lacks a file") || !strings.Contains(trouble.Hint, "ask the daemon of the host that has it") {
		t.Errorf("an image set that is not there: %+v", trouble)
	}
	if err := other.admin.BeginMirror(t.Context(), "/absent.yaml"); err == nil || !strings.Contains(err.Error(), "the configuration of host "+host+" names no image set") {
		t.Errorf("an image set that the configuration does not name: %v", err)
	}
}

// killed kills the daemon that does what a schedule began, and a scrub.
func (f *together) killed(t *testing.T, host string) {
	hanging, _ := silent(t)
	set := filepath.Join(t.TempDir(), "timed.yaml")
	must(t, os.WriteFile(set, []byte(imageSetOf(hanging+"/of/schedule:v1")), 0o644))
	f.mirrors(t, set, time.Minute) // from the start
	var one, other *faulty
	begins := func() bool {
		for i, d := range f.daemons {
			if now := d.state(t).Running; now != nil && now.Host == "" {
				one, other = d, f.daemons[1-i]
			}
		}
		return one != nil
	}
	for began := time.Now(); !begins() && time.Since(began) < 2*time.Minute; {
		time.Sleep(time.Second)
	}
	if one == nil {
		t.Fatal("the schedule begins nothing")
	}
	must(t, one.admin.BeginScrub(t.Context(), api.ScrubRequest{BytesPerSecond: 16 << 10}))
	catalog := api.CatalogRead{Catalog: hanging + "/a/b:v1"}
	must(t, one.admin.BeginReadCatalog(t.Context(), catalog))
	reads := func(d *faulty) api.ReachedCatalogs {
		now, err := d.admin.Reached(t.Context())
		must(t, err)
		return now
	}
	eventuallyHolds(t, "the other daemon shows the reading", func() bool { return reads(other).Running != nil })
	var scrub *api.ScrubState
	eventuallyHolds(t, "the other daemon shows the run and the scrub", func() bool {
		now, err := other.admin.Status(t.Context())
		must(t, err)
		scrub = now.Scrub
		return scrub != nil && scrub.Running && scrub.Host == host && now.Sync[0].Running != nil && now.Sync[0].Running.Host == host
	})
	began := other.state(t).Running.Began
	one.kill()
	eventuallyHolds(t, "what the daemon did ends as interrupted", func() bool {
		now, err := other.admin.Status(t.Context())
		must(t, err)
		last := now.Sync[0].Last
		return now.Scrub != nil && !now.Scrub.Running && now.Scrub.Host == host && now.Scrub.Began.Equal(scrub.Began) && now.Sync[0].Running == nil &&
			last != nil && last.Began.Equal(began) && strings.Contains(last.Error, "it was interrupted: the daemon on host "+host)
	})
	eventuallyHolds(t, "the reading is not under way", func() bool { return reads(other).Running == nil })
	if now := reads(other).Read; len(now) == 0 || now[0].Catalog != catalog.Catalog || now[0].Error == nil ||
		now[0].Error.Problem != "the daemon on host "+host+" ended while it read the catalog" {
		t.Errorf("of the reading it shows %+v", now)
	}
	must(t, other.admin.BeginScrub(t.Context(), api.ScrubRequest{}))
	eventuallyHolds(t, "the scrub is complete", func() bool {
		now, err := other.admin.Status(t.Context())
		must(t, err)
		return now.Scrub == nil && now.LastScrub != nil && !now.LastScrub.Ended.IsZero()
	})
	one.start(t)
	if last := one.state(t).Last; last == nil || !strings.Contains(last.Error, "it was interrupted") {
		t.Errorf("the daemon that was killed has, when it runs again, the result %+v", last)
	}
}
