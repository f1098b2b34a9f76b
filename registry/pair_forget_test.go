package registry_test

import (
	"database/sql"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// A first that is gone for good is forgotten, and nothing warns of it.
func TestPair_firstIsForgotten(t *testing.T) {
	first, second := newOne(t), newOne(t)
	must(t, first.push(t, "app:v1"))
	second.follows(t, first)
	first.end(t)
	_, err := second.admin.Promote(t.Context(), api.PromoteRequest{Force: true}, nil)
	must(t, err)
	warns := func(want bool) {
		t.Helper()
		s := second.mustBe(t, "primary")
		if all := doctor(s); strings.Contains(all, first.address()) != want || strings.Contains(all, "appliance forget https://"+first.address()) != want {
			t.Errorf("doctor tells\n%s", all)
		}
		metric := map[bool]string{true: "appliance_family_untold 1\n", false: "appliance_family_untold 0\n"}[want]
		if _, body := second.as(t, "pull", http.MethodGet, "/metrics"); !strings.Contains(body, metric) {
			t.Errorf("the metrics lack %s", metric)
		}
		not := map[bool]string{true: "", false: "!"}[want]
		second.logIn(t, "admin").shows(t, "/pair", http.StatusOK, not+first.address(), not+"Forget…", not+"Not told yet")
	}
	warns(true)
	page, s := second.logIn(t, "admin"), second.mustBe(t, "primary")
	at := "/pair/followers/" + s.Family.UntoldIDs[0] + "/remove"
	page.shows(t, at, http.StatusOK, "Forget "+first.address()+"?", "destroy its data", "appliance follow https://"+second.address()+" --credentials FILE --ca FILE")
	if code, to, body := page.send(t, at, at, url.Values{}); code != http.StatusOK || to != "/pair" || !strings.Contains(body, first.address()+" is forgotten.") {
		t.Errorf("it is answered %d %s %s", code, to, body)
	}
	warns(false)
	if all := strings.Join(second.audited(t, api.AuditRequest{}), "\n"); !strings.Contains(all, "admin appliance forgotten") {
		t.Errorf("the audit has\n%s", all)
	}
	var answer *client.Refused
	if err := second.admin.RemoveFollower(t.Context(), s.Family.UntoldIDs[0]); !errors.As(err, &answer) || answer.Status != http.StatusNotFound {
		t.Errorf("again it is answered %v", err)
	}
	second.end(t)
	second.again(t)
	warns(false)

	first.again(t) // it comes back nevertheless, and asks
	first.refuses(t, "https://"+second.address()+" has taken its place")
	first.follows(t, second)
	second.await(t, func(s api.Status) bool { return len(s.Family.Untold) == 0 })
	done, err := first.admin.Promote(t.Context(), api.PromoteRequest{}, nil)
	must(t, err)
	if done.Forced != "" || len(done.Family.Untold) > 0 {
		t.Errorf("promoted: %+v", done)
	}
}

// A first that was off for months is told by its follower, and may have been up alone before.
func TestPair_firstWasOffForLong(t *testing.T) {
	first, second := newOne(t), newOne(t)
	second.follows(t, first)
	first.end(t)
	_, err := second.admin.Promote(t.Context(), api.PromoteRequest{Force: true}, nil)
	must(t, err)
	second.end(t)
	db, err := sql.Open("sqlite", first.cfg.Database)
	must(t, err)
	_, err = db.Exec(`UPDATE followers SET seen = ?`, time.Now().Add(-100*24*time.Hour).UnixNano())
	must(t, err)
	must(t, db.Close())
	first.again(t)
	must(t, first.push(t, "alone:v1"))
	_, err = first.admin.RegisterFollower(t.Context(), api.NewFollower{ID: "x", Address: "x:1", Token: "x"})
	must(t, err)
	must(t, first.admin.RemoveFollower(t.Context(), "x")) // which drops what followers do not need
	second.again(t)
	second.await(t, func(s api.Status) bool { return len(s.Family.Untold) == 0 })
	first.refuses(t, "https://"+second.address()+" has taken its place")
	first.end(t)
	first.again(t)
	q := second.asks(t)
	q.Force = true
	_, err = first.admin.Follow(t.Context(), q)
	must(t, err)
}
