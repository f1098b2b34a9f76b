//go:build several

package main_test

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// silent is a registry that answers nothing, until it is closed.
func silent(t *testing.T) (address string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() }) // mostly again
	return l.Addr().String(), func() { must(t, l.Close()) }
}

func imageSetOf(images ...string) string {
	text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n"
	for _, image := range images {
		text += "    - name: " + image + "\n"
	}
	return text
}

// What one daemon does on request, the other shows, ends, and has the result of.
func TestSeveral_work(t *testing.T) {
	f := newTogether(t, 2)
	hanging, end := silent(t)
	set := filepath.Join(t.TempDir(), "set.yaml")
	must(t, os.WriteFile(set, []byte(imageSetOf(hanging+"/of/set:v1")), 0o644))
	source := plainUpstream(t)
	pass := f.slowUpstream(t)
	f.mirrors(t, set, 24*time.Hour)
	one, other := f.daemons[0].admin, f.daemons[1].admin
	host, err := os.Hostname()
	must(t, err)
	elsewhere := func(t *testing.T, at string) {
		t.Helper()
		if at != host {
			t.Errorf("it is done on host %q, not %q", at, host)
		}
	}
	busy := func(t *testing.T, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "is under way already, by the daemon on host "+host) {
			t.Errorf("a second one: %v", err)
		}
	}

	draft := imageSetOf(hanging + "/of/draft:v1")
	t.Run("the plan of a text", func(t *testing.T) {
		must(t, one.BeginDraft(t.Context(), api.DraftRequest{Text: draft}))
		var now api.DraftPlanState
		eventuallyHolds(t, "the other daemon shows the plan that is made", func() bool {
			now, err = other.DraftPlan(t.Context())
			must(t, err)
			return now.Running != nil
		})
		elsewhere(t, now.Running.Host)
		busy(t, other.BeginDraft(t.Context(), api.DraftRequest{Text: draft}))
		must(t, other.StopDraft(t.Context()))
		eventuallyHolds(t, "the plan is ended", func() bool {
			now, err = one.DraftPlan(t.Context())
			must(t, err)
			return now.Running == nil
		})
		if now.Last != nil {
			t.Errorf("a plan that was ended has the result %+v", now.Last)
		}
	})
	t.Run("the plan of an image set", func(t *testing.T) {
		must(t, other.BeginMirrorPlan(t.Context(), set))
		var now api.MirrorPlanState
		eventuallyHolds(t, "the other daemon shows the plan that is made", func() bool {
			now, err = one.MirrorPlan(t.Context(), set)
			must(t, err)
			return now.Running != nil
		})
		elsewhere(t, now.Running.Host)
		busy(t, one.BeginMirrorPlan(t.Context(), set))
		must(t, one.StopMirror(t.Context(), api.MirrorStop{ImageSet: set, Plan: true}))
		eventuallyHolds(t, "the plan is ended", func() bool {
			now, err = other.MirrorPlan(t.Context(), set)
			must(t, err)
			return now.Running == nil
		})
	})
	t.Run("a run of an image set", func(t *testing.T) { f.onRequest(t, set, host) })
	t.Run("catalogs", func(t *testing.T) { f.catalogs(t, hanging, source, host) })
	end()
	t.Run("results", func(t *testing.T) {
		must(t, other.BeginDraft(t.Context(), api.DraftRequest{Text: draft}))
		eventuallyHolds(t, "the other daemon has the plan of the text", func() bool {
			now, err := one.DraftPlan(t.Context())
			must(t, err)
			return now.Running == nil && now.Last != nil && now.Text == digest.FromString(draft) && (now.Last.Failed == 1 || now.Last.Error != nil)
		})
		must(t, one.BeginMirrorPlan(t.Context(), set))
		eventuallyHolds(t, "the other daemon has the plan of the image set", func() bool {
			now, err := other.MirrorPlan(t.Context(), set)
			must(t, err)
			return now.Running == nil && now.Last != nil
		})
		must(t, one.BeginReady(t.Context(), api.ReadyRequest{To: "4.99.1"}))
		eventuallyHolds(t, "the other daemon has the verdict", func() bool {
			now, err := other.ReadyState(t.Context())
			must(t, err)
			return now.Running == nil && now.Last != nil && now.Last.Verdict != nil && now.Last.Asked.To == "4.99.1"
		})
		if set, err := other.ReadyImageSet(t.Context()); err != nil || !strings.Contains(set.Text, "4.99.1") {
			t.Errorf("what is missing: %s, %v", set.Text, err)
		}
	})
	t.Run("a verification", func(t *testing.T) {
		must(t, f.push(t.Context(), newTestImage("app", "v1", randomBytes(1<<20))))
		must(t, one.BeginVerify(t.Context(), api.VerifyRequest{Content: true, BytesPerSecond: 128 << 10}))
		var now api.Status
		eventuallyHolds(t, "the other daemon shows the verification", func() bool {
			now, err = other.Status(t.Context())
			must(t, err)
			return now.Verify != nil
		})
		elsewhere(t, now.Verify.Host)
		busy(t, other.BeginVerify(t.Context(), api.VerifyRequest{}))
		eventuallyHolds(t, "the other daemon shows the result", func() bool {
			now, err = other.Status(t.Context())
			must(t, err)
			return now.Verify == nil && now.LastVerify != nil && now.LastVerify.Content
		})
	})
	t.Run("a scrub", func(t *testing.T) {
		must(t, other.BeginScrub(t.Context(), api.ScrubRequest{BytesPerSecond: 128 << 10}))
		var now api.Status
		eventuallyHolds(t, "the other daemon shows the scrub", func() bool {
			now, err = one.Status(t.Context())
			must(t, err)
			return now.Scrub != nil && now.Scrub.Running
		})
		elsewhere(t, now.Scrub.Host)
		busy(t, one.BeginScrub(t.Context(), api.ScrubRequest{}))
		eventuallyHolds(t, "the other daemon shows the result", func() bool {
			now, err = one.Status(t.Context())
			must(t, err)
			return now.Scrub == nil && now.LastScrub != nil && now.LastScrub.Blobs > 0
		})
	})
	t.Run("files of a host", func(t *testing.T) { f.ownFiles(t, set, host) })
	t.Run("the plan of a collection, in a browser", func(t *testing.T) {
		b := f.logIn(t, "collects")
		if status, leads, _ := b.form(t, "/storage/gc", "/storage/gc/plan", url.Values{}); status != http.StatusSeeOther || leads != "/storage/gc" {
			t.Fatalf("a plan is answered with %d and leads to %s", status, leads)
		}
		for range f.daemons { // each of them
			eventuallyHolds(t, "the daemon shows the plan", func() bool {
				_, _, body := b.send(t, "/storage/gc", nil)
				_ = b.next.Add(1) // the same one again
				return strings.Contains(body, "There is nothing to remove")
			})
			b.next.Add(1)
		}
		_, err := one.GC(t.Context(), api.GCRequest{}, nil)
		must(t, err)
		if now, err := other.GCPlan(t.Context()); err != nil || now.Last != nil {
			t.Errorf("after a collection the other daemon has the plan %+v, %v", now.Last, err)
		}
	})
	t.Run("pins", func(t *testing.T) { f.pins(t, pass) })
	t.Run("what a schedule began, of a daemon that is killed", func(t *testing.T) { f.killed(t, host) })
	for _, d := range f.daemons {
		d.stop(t)
	}
}
