package registry_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// judged waits for the verdict of the daemon's own.
func (r *running) judged(t *testing.T, to string) (a api.ReadyAnswer) {
	t.Helper()
	until(t, "the verdict about "+to, func() bool {
		s, err := r.admin.ReadyState(t.Context())
		must(t, err)
		if s.Running != nil || s.Last == nil || s.Last.Asked.To != to {
			return false
		}
		a = *s.Last
		return true
	})
	return a
}

func TestReady_detached(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    graph: true\n    channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.1, full: true}]\n")
	u.becomes("eus-4.18", "4.16.2 4.17.2 4.18.1")
	if _, err := u.admin.ReadyImageSet(t.Context()); err == nil || !strings.Contains(err.Error(), "no verdict") {
		t.Errorf("an image set without a verdict: %v", err)
	}
	q := api.ReadyRequest{To: "4.18.1", From: "4.16.2", Channel: "eus-4.18", Architectures: []string{"amd64"}}
	must(t, u.admin.BeginReady(t.Context(), q))
	a := u.judged(t, "4.18.1")
	if a.Verdict == nil || a.Verdict.Answer != api.ReadyNo || len(a.Verdict.Path) != 2 || a.Asked.From != "4.16.2" || a.Asked.Channel != "eus-4.18" {
		t.Errorf("the verdict is %+v", a)
	}

	must(t, u.admin.BeginReady(t.Context(), api.ReadyRequest{To: "4.99.1"}))
	if a := u.judged(t, "4.99.1"); a.Verdict == nil || a.Verdict.Reasons[0].Code != "release-absent" {
		t.Errorf("the verdict about what is not here is %+v", a)
	}
	set, err := u.admin.ReadyImageSet(t.Context())
	must(t, err)
	contains(t, "the image set", set.Text, "kind: ImageSetConfiguration", "stable-4.99", "4.99.1")

	must(t, u.admin.BeginReady(t.Context(), api.ReadyRequest{To: "4.16.1", Cluster: &state.Facts{ID: "c-1", Version: "4.16.2"}}))
	if a := u.judged(t, "4.16.1"); a.Error == nil || a.Error.Hint == "" || a.Asked.Cluster != "c-1" {
		t.Errorf("what cannot be judged is %+v", a)
	}

	slow := api.ReadyRequest{To: "4.18.1", Content: true, BytesPerSecond: 1}
	must(t, u.admin.BeginReady(t.Context(), slow))
	until(t, "its progress", func() bool {
		s, err := u.admin.ReadyState(t.Context())
		return err == nil && s.Running != nil && s.Running.Progress.OfBytes > 0
	})
	var refused *client.Refused
	if err := u.admin.BeginReady(t.Context(), slow); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Errorf("a second one: %v", err)
	}
	must(t, u.admin.StopReady(t.Context()))
	if a := u.judged(t, "4.16.1"); a.Error == nil {
		t.Errorf("a verdict that was stopped takes the place of the last: %+v", a)
	}
	must(t, u.admin.StopReady(t.Context()))
	if log := u.log.String(); strings.Count(log, `event="verdict stopped"`) != 1 {
		t.Errorf("the audit is\n%s", log)
	}
}

// Stop leaves the verdict alone that a command waits for.
func TestReady_stopIsOfTheDetached(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n")
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		_, err := u.admin.Ready(t.Context(), api.ReadyRequest{To: "4.18.1", Content: true, BytesPerSecond: 400 << 10}, func(p api.ReadyProgress) {
			if p.OfBytes > 0 {
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
		ended <- err
	}()
	<-begun
	must(t, u.admin.StopReady(t.Context()))
	if err := <-ended; err != nil {
		t.Errorf("the verdict that a command waits for ends with %v", err)
	}
}
