package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestRun_usage(t *testing.T) {
	r := start(t)
	small, err := random.Image(1000, 2)
	must(t, err)
	large, err := random.Image(50_000, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "team/small:v1"), small, r.remote(t, "push", password)...))
	for _, ref := range []string{"team/large:v1", "other/large:v1"} {
		must(t, remote.Write(tag(t, ref), large, r.remote(t, "push", password)...))
	}
	of := func(q api.UsageRequest) api.Usage {
		t.Helper()
		for { // until the test's time is over
			u, err := r.admin.Usage(t.Context(), q)
			must(t, err)
			if u.Counting == nil && !u.Changed {
				return u
			}
		}
	}
	names := func(u api.Usage) (all []string) {
		for _, r := range u.Repositories {
			all = append(all, r.Name)
		}
		return all
	}
	u := of(api.UsageRequest{})
	if u.Error != nil || u.Blobs.Blobs != 6 || u.Own.Blobs != 3 || u.Shared.Blobs != 3 || u.Shared.Bytes < 100_000 || u.Unlinked.Blobs != 0 ||
		u.Blobs.Bytes != u.Own.Bytes+u.Shared.Bytes || u.Unused.Blobs != 0 || u.Database == 0 {
		t.Errorf("the usage is %+v", u)
	}
	if got := names(u); !slices.Equal(got, []string{"team/small", "other/large", "team/large"}) {
		t.Errorf("by their own: %v", got)
	}
	if got := names(of(api.UsageRequest{All: true, Limit: 2})); !slices.Equal(got, []string{"other/large", "team/large"}) {
		t.Errorf("by all: %v", got)
	}
	for after, want := range map[int]string{0: "team/small", 1: "team/large"} {
		u := of(api.UsageRequest{Text: "Team/", After: after, Limit: 1})
		if got := names(u); !slices.Equal(got, []string{want}) || u.Of != 2 || u.Next != 1-after {
			t.Errorf("a part after %d: %v of %d, next %d", after, got, u.Of, u.Next)
		}
	}

	d, err := small.Digest()
	must(t, err)
	must(t, remote.Delete(tag(t, "team/small:v1").Digest(d.String()), r.remote(t, "push", password)...))
	if u := of(api.UsageRequest{}); u.Unused.Blobs != 3 || u.Reclaimable != u.Unused || u.Unused.Bytes != u.Own.Bytes {
		t.Errorf("after a delete it is %+v", u)
	}
	must(t, r.admin.BeginGC(t.Context(), api.GCRequest{DryRun: true}))
	var plan api.GCPlan
	for plan.Last == nil { // until the test's time is over
		plan, err = r.admin.GCPlan(t.Context())
		must(t, err)
	}
	planIs(t, *plan.Last, small)
	_, err = r.admin.GC(t.Context(), api.GCRequest{}, nil)
	must(t, err)
	if plan, err := r.admin.GCPlan(t.Context()); err != nil || plan.Last != nil {
		t.Errorf("after a collection the plan is %+v, %v", plan, err)
	}
	if u := of(api.UsageRequest{}); u.Blobs.Blobs != 3 || u.Unused.Blobs != 0 || len(u.Repositories) != 2 {
		t.Errorf("after a collection it is %+v", u)
	}
}

// TestRun_detachedChecks leaves a scrub and a verification to the daemon.
func TestRun_detachedChecks(t *testing.T) {
	r := start(t)
	img, err := random.Image(2048, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "a:v1"), img, r.remote(t, "push", password)...))
	r.spoil(t, img)
	must(t, r.admin.BeginVerify(t.Context(), api.VerifyRequest{Content: true}))
	until := func(ended func(api.Status) bool) (s api.Status) {
		t.Helper()
		for !ended(s) { // until the test's time is over
			s, err = r.admin.Status(t.Context())
			must(t, err)
		}
		return s
	}
	if s := until(func(s api.Status) bool { return s.LastVerify != nil }); !s.LastVerify.Content || s.LastVerify.Problems != 1 || s.LastVerify.Error != "" {
		t.Errorf("the verification is %+v", s.LastVerify)
	}
	must(t, r.admin.BeginScrub(t.Context(), api.ScrubRequest{}))
	if s := until(func(s api.Status) bool { return s.LastScrub != nil && s.Scrub == nil }); s.LastScrub.Damaged != 1 || s.LastScrub.Repaired != 0 {
		t.Errorf("the scrub is %+v", s.LastScrub)
	}
	r = r.restart(t)
	d, err := r.admin.Damage(t.Context())
	must(t, err)
	if d.Verified == nil || len(d.Verified.Report.Problems) != 1 || !strings.Contains(d.Verified.Report.Problems[0].What, "hashes to") {
		t.Errorf("verified: %+v", d.Verified)
	}
	if len(d.Blobs) != 1 || !slices.Equal(d.Blobs[0].Images, []string{"a:v1"}) || len(d.Blobs[0].Sources) != 0 || d.Blobs[0].Cause == "" {
		t.Errorf("damaged are %+v", d.Blobs)
	}
}

func TestRun_lastBackup(t *testing.T) {
	r := start(t)
	broken := errors.New("the medium is full")
	for _, result := range []error{broken, nil, broken} {
		before, err := r.admin.Status(t.Context())
		must(t, err)
		if err := r.admin.Backup(t.Context(), func(context.Context, string) error { return result }); !errors.Is(err, result) {
			t.Errorf("error is %v", err)
		}
		after, err := r.admin.Status(t.Context())
		must(t, err)
		if result == nil && (after.LastBackup == nil || after.LastBackup.Ended.Before(after.LastBackup.Began)) ||
			result != nil && (after.LastBackup == nil) != (before.LastBackup == nil) {
			t.Errorf("after %v it is %+v", result, after.LastBackup)
		}
	}
	r = r.restart(t)
	if s, err := r.admin.Status(t.Context()); err != nil || s.LastBackup == nil {
		t.Errorf("after a restart: %+v, %v", s.LastBackup, err)
	}
}
