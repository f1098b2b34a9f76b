package registry_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/console/consoletest"
)

var wasFields = regexp.MustCompile(`name="(was-[a-z]+)" value="([^"]*)"`)

// change sends the form of a user as it was shown in page, with what is typed into it.
func (s *surfer) change(t *testing.T, page, name string, typed url.Values) (code int, at, body string) {
	t.Helper()
	form := url.Values{"csrf": {consoletest.CSRF(page)}}
	for _, field := range wasFields.FindAllStringSubmatch(page, -1) {
		form.Add(field[1], field[2])
	}
	for field, values := range typed {
		form[field] = values
	}
	return s.post(t, "/users/"+name, form)
}

// Two administrators have the form of a user open: what the second saves must not undo what the first did.
func TestConsole_formOfUser_changesWhatWasTyped(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: "ci", Role: "push", Password: "long-enough-too", Repositories: []string{"team-a/*", "team-b/app"}})
	must(t, err)
	page := s.wants(t, "/users/ci", "team-b/app")
	is := func(when, role string, repositories ...string) {
		t.Helper()
		users, err := r.admin.Users(t.Context())
		must(t, err)
		u := users[slices.IndexFunc(users, func(u api.User) bool { return u.Name == "ci" })]
		if u.Role != role || !slices.Equal(u.Repositories, repositories) {
			t.Errorf("%s the user is %+v", when, u)
		}
	}
	_, err = r.admin.ChangeUser(t.Context(), "ci", api.UserChange{Role: "pull", Repositories: &[]string{"only/this"}})
	must(t, err)

	asShown := url.Values{"role": {"push"}, "repositories": {"team-a/*\r\nteam-b/app\r\n"}}
	code, _, body := s.change(t, page, "ci", url.Values{"role": asShown["role"], "repositories": asShown["repositories"], "password": {"another-password"}})
	if contains(t, "a new password", body, "The user ci is changed."); code != http.StatusOK {
		t.Errorf("a new password: %d", code)
	}
	is("after a new password", "pull", "only/this")
	if code, at, body := s.change(t, page, "ci", asShown); code != http.StatusOK || at != "/users" {
		t.Errorf("nothing typed: %d %s", code, at)
	} else {
		contains(t, "nothing typed", body, "The user ci is as it was.")
	}
	is("after nothing was typed", "pull", "only/this")

	// What is refused stays in the form, and what the form was made of too.
	code, _, body = s.change(t, page, "ci", url.Values{"role": {"admin"}, "repositories": {"team-a/*\r\nTeam/[x"}})
	if contains(t, "a wrong pattern", body, "matches no repository", "Team/[x\n", `value="admin" checked`, `name="was-role" value="push"`, `name="was-repository" value="team-b/app"`); code != http.StatusBadRequest {
		t.Errorf("a wrong pattern: %d", code)
	}
	is("after a wrong pattern", "pull", "only/this")
	if code, at, _ := s.change(t, body, "ci", url.Values{"role": {"push"}, "repositories": {""}}); code != http.StatusOK || at != "/users" {
		t.Errorf("no patterns: %d %s", code, at)
	}
	is("after no patterns", "pull", "*")
}
