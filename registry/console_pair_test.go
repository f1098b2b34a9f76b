package registry_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestConsole_pair(t *testing.T) {
	first, second := newOne(t), newOne(t)
	must(t, first.push(t, "app:v1"))
	page := first.logIn(t, "admin")
	page.shows(t, "/pair", http.StatusOK, "No appliance copies this one", "appliance follow https://"+first.address(), "!Have it take changes")
	page.shows(t, "/pair/promote", http.StatusOK, "This appliance takes changes.", `!name="force"`)
	second.follows(t, first)
	t.Run("the first lists its followers", func(t *testing.T) {
		page.shows(t, "/pair", http.StatusOK, second.address(), "equal", "its own", "Remove…", "!No appliance copies this one")
	})
	t.Run("a follower shows what it copies, and what rests", func(t *testing.T) {
		s := second.logIn(t, "admin")
		s.shows(t, "/pair", http.StatusOK, "https://"+first.address(), "equal to it", "scheduled syncs", "Have it take changes…")
		s.shows(t, "/pair/promote", http.StatusOK, "https://"+first.address(), "equal to it", "Cancel", "!The primary does not answer")
	})
	first.end(t)
	t.Run("without the first it is refused, and keeps its role", func(t *testing.T) {
		second.await(t, func(s api.Status) bool { return !s.Following.Connected })
		s := second.logIn(t, "admin")
		s.shows(t, "/pair/promote", http.StatusOK, "The primary does not answer")
		code, _, body := s.send(t, "/pair/promote", "/pair/promote", url.Values{})
		if code < 400 || !strings.Contains(body, "cannot be asked to give way") || !strings.Contains(body, "appliance promote --force") {
			t.Errorf("it is answered %d %s", code, body)
		}
		second.mustBe(t, "follower")
	})
	first.again(t)
	t.Run("the follower is promoted", func(t *testing.T) {
		s := second.logIn(t, "admin")
		code, at, body := s.send(t, "/pair/promote", "/pair/promote", url.Values{})
		if code != http.StatusOK || at != "/pair" || !strings.Contains(body, "This appliance takes changes.") {
			t.Errorf("it is answered %d %s %s", code, at, body)
		}
		second.mustBe(t, "primary")
		first.mustBe(t, "superseded")
		first.logIn(t, "admin").shows(t, "/pair", http.StatusOK, "has taken its place", "appliance follow https://"+second.address())
	})
	first.follows(t, second)
	first.end(t) // one that asks is registered again
	t.Run("a follower is removed", func(t *testing.T) {
		followers, err := second.admin.Followers(t.Context())
		must(t, err)
		if len(followers) != 1 {
			t.Fatalf("followers are %+v", followers)
		}
		s, at := second.logIn(t, "admin"), "/pair/followers/"+followers[0].ID+"/remove"
		s.shows(t, at, http.StatusOK, "Remove the follower "+first.address()+"?", "appliance follow --stop")
		if code, to, body := s.send(t, at, at, url.Values{}); code != http.StatusOK || to != "/pair" || !strings.Contains(body, "is removed.") || !strings.Contains(body, "No appliance copies this one") {
			t.Errorf("it is answered %d %s %s", code, to, body)
		}
		s.shows(t, at, http.StatusNotFound, "There is no follower "+followers[0].ID)
	})
}
