package admin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

func TestClient_users(t *testing.T) {
	f := serve(t)
	ctx, c := t.Context(), f.client
	create := func(name, role, password string) error {
		_, err := c.CreateUser(ctx, api.NewUser{Name: name, Role: role, Password: password})
		return err
	}
	change := func(name string, to api.UserChange) error {
		_, err := c.ChangeUser(ctx, name, to)
		return err
	}
	must(t, create("init", "admin", "first-password"))
	must(t, create("puller", "pull", "pull-password"))

	t.Run("are listed", func(t *testing.T) {
		users, err := c.Users(ctx)
		must(t, err)
		var got []string
		for _, u := range users {
			got = append(got, u.Name+" "+u.Role)
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{"init admin", "puller pull"}) {
			t.Errorf("users are %v", got)
		}
		if _, answer := f.send(t, "GET", "/api/v1/users", ""); strings.Contains(strings.ToLower(answer), "password") {
			t.Errorf("the list shows %s", answer)
		}
	})
	t.Run("are told as they are now", func(t *testing.T) {
		made, err := c.CreateUser(ctx, api.NewUser{Name: "x", Role: "pull", Password: "some-password"})
		if err != nil || made.Name != "x" || made.Role != "pull" || made.Created.IsZero() {
			t.Errorf("made %+v, %v", made, err)
		}
		now, err := c.ChangeUser(ctx, "x", api.UserChange{Role: "push"})
		if err != nil || now.Role != "push" || !now.Created.Equal(made.Created) {
			t.Errorf("changed to %+v, %v", now, err)
		}
		must(t, c.DeleteUser(ctx, "x"))
	})
	t.Run("can log in", func(t *testing.T) {
		id, err := f.login("puller", "pull-password")
		if err != nil || id.Role != auth.Pull {
			t.Errorf("is %+v, %v", id, err)
		}
	})
	t.Run("a name is taken once", func(t *testing.T) {
		refusal(t, create("init", "pull", "other-password"), http.StatusConflict, "already")
	})
	t.Run("are refused with a bad", func(t *testing.T) {
		for what, u := range map[string]struct{ name, role, password, message string }{
			"name":           {"a:b", "pull", "good-password", "user name"},
			"role":           {"a", "king", "good-password", `unknown role "king"`},
			"password":       {"a", "pull", "short", "shorter than 8"},
			"spacy password": {"a", "pull", "with some space", "whitespace"},
		} {
			t.Run(what, func(t *testing.T) {
				if r := refusal(t, create(u.name, u.role, u.password), http.StatusBadRequest, u.message); r.Hint() == "" {
					t.Error("there is no hint")
				}
			})
		}
	})
	t.Run("all repositories are granted explicitly", func(t *testing.T) {
		for _, list := range []string{`[]`, `[""]`, `[" "]`, `["a",""]`, `["a..b/*"]`, `["A"]`, `["a\nb"]`, `""`} {
			for path, body := range map[string]string{
				"POST /api/v1/users":       `{"name":"x","role":"push","password":"good-password","repositories":` + list + `}`,
				"PUT /api/v1/users/puller": `{"repositories":` + list + `}`,
			} {
				method, path, _ := strings.Cut(path, " ")
				if status, answer := f.send(t, method, path, body); status != http.StatusBadRequest || !strings.Contains(answer, `"error"`) {
					t.Errorf("%s %s: %d %s", method, body, status, answer)
				}
			}
		}
		users, err := c.Users(ctx)
		if err != nil || slices.ContainsFunc(users, func(u api.User) bool { return u.Name == "x" || u.Repositories != nil }) {
			t.Errorf("%+v, %v", users, err)
		}
		for _, patterns := range [][]string{{"a/*"}, {"*"}} {
			u, err := c.ChangeUser(ctx, "puller", api.UserChange{Repositories: &patterns})
			if err != nil || !slices.Equal(u.Repositories, patterns) {
				t.Errorf("%+v, %v", u, err)
			}
		}
	})
	t.Run("a changed password counts at once", func(t *testing.T) {
		if _, err := f.login("puller", "pull-password"); err != nil { // remembered now
			t.Fatal(err)
		}
		must(t, change("puller", api.UserChange{Password: "next-password"}))
		if _, err := f.login("puller", "pull-password"); err == nil {
			t.Errorf("with the old password: %v", err)
		}
		id, err := f.login("puller", "next-password")
		if err != nil || id.Role != auth.Pull {
			t.Errorf("with the new password: %+v, %v", id, err)
		}
	})
	t.Run("a changed role keeps the password", func(t *testing.T) {
		must(t, change("puller", api.UserChange{Role: "push"}))
		id, err := f.login("puller", "next-password")
		if err != nil || id.Role != auth.Push {
			t.Errorf("is %+v, %v", id, err)
		}
	})
	t.Run("an unknown one is not changed", func(t *testing.T) {
		refusal(t, change("nobody", api.UserChange{Role: "push"}), http.StatusNotFound, "nobody")
	})
	t.Run("the last administrator stays one", func(t *testing.T) {
		refusal(t, c.DeleteUser(ctx, "init"), http.StatusConflict, "last administrator")
		refusal(t, change("init", api.UserChange{Role: "pull"}), http.StatusConflict, "last administrator")
		must(t, change("puller", api.UserChange{Role: "admin"}))
		must(t, change("init", api.UserChange{Role: "pull"}))
		must(t, c.DeleteUser(ctx, "init"))
		if _, err := f.login("init", "first-password"); err == nil {
			t.Errorf("after its removal: %v", err)
		}
	})
}

// login returns the user of a request with that name and password.
func (f *fixture) login(name, password string) (id auth.Identity, err error) {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(name, password)
	f.auth.Require(func(*http.Request) auth.Action { return auth.Login },
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { id, _ = auth.IdentityFrom(r.Context()) }),
		func(_ http.ResponseWriter, _ *http.Request, status int) { err = errors.New(http.StatusText(status)) }).ServeHTTP(httptest.NewRecorder(), r)
	return id, err
}
