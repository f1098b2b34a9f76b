package console

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// roles are the choices of a user's role, the least first.
func roles() []auth.Role { return []auth.Role{auth.Pull, auth.Push, auth.Admin} }

// usersPage lists the users, with the form for a new one.
type usersPage struct {
	CSRF  string
	Users []api.User
	Roles []auth.Role
	New   api.NewUser // without a password
	Error *problem
}

func (v *visit) users() error {
	return v.showUsers(http.StatusOK, api.NewUser{Role: string(auth.Pull)}, nil)
}

func (v *visit) showUsers(status int, filled api.NewUser, failed *problem) error {
	users, err := v.c.api.Users(v.r.Context())
	if err != nil {
		return err
	}
	return v.write(status, "users", "users", "users.title",
		usersPage{CSRF: v.session.CSRF, Users: users, Roles: roles(), New: filled, Error: failed})
}

// createUser shows the form again with what is wrong in it.
func (v *visit) createUser() error {
	u := api.NewUser{Name: v.field("name"), Role: v.field("role"), Password: v.password(), Repositories: v.lines("repositories")}
	_, err := v.c.api.CreateUser(v.r.Context(), u)
	if err == nil {
		return v.showSecret(u.Name, u.Password, v.c.views.text("users.created", u.Name))
	}
	u.Password = ""
	failed := problemOf(err)
	return v.showUsers(statusOf(err), u, &failed)
}

// password returns the password of the form, or one that is made if the form asks for that.
func (v *visit) password() string {
	if v.field("generate") != "" {
		return rand.Text()
	}
	return v.r.PostForm.Get("password")
}

// secretPage has the login of a user, who was given a password in this request: later there is its hash alone.
type secretPage struct{ Name, Done, Password, Secret string }

// showSecret shows the login in the answer itself: it goes through no session, log, or cache.
func (v *visit) showSecret(name, password, done string) error {
	type login struct {
		Auth string `json:"auth"`
	}
	secret, err := json.Marshal(map[string]map[string]login{"auths": {v.c.Address: {base64.StdEncoding.EncodeToString([]byte(name + ":" + password))}}})
	if err != nil {
		return err
	}
	p := secretPage{Name: name, Done: done, Secret: string(secret)}
	if v.field("generate") != "" { // else the user knows it
		p.Password = password
	}
	return v.show("user-secret", "users", name, p)
}

// lines returns the lines of a field that are not blank.
func (v *visit) lines(name string) (lines []string) {
	for line := range strings.Lines(v.r.PostForm.Get(name)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// userPage is one user.
type userPage struct {
	CSRF  string
	User  api.User // as the form shows it
	Was   api.User // as the form showed it first, of which role and repositories alone are set
	Roles []auth.Role
	Self  bool // it is the one who looks
	Error *problem
}

func (v *visit) user() error {
	u, err := v.named()
	if err != nil {
		return err
	}
	return v.showUser(http.StatusOK, u, u, nil)
}

func (v *visit) showUser(status int, u, was api.User, failed *problem) error {
	return v.write(status, "user", "users", u.Name, userPage{CSRF: v.session.CSRF, User: u, Was: was, Roles: roles(),
		Self: u.Name == v.session.Identity.Name, Error: failed})
}

// named returns the user that the path names.
func (v *visit) named() (api.User, error) {
	name := v.r.PathValue("name")
	users, err := v.c.api.Users(v.r.Context())
	if err != nil {
		return api.User{}, err
	}
	i := slices.IndexFunc(users, func(u api.User) bool { return u.Name == name })
	if i < 0 {
		return api.User{}, &client.Refused{Status: http.StatusNotFound, Refusal: api.Refusal{
			Problem: v.c.views.text("users.unknown", name), Hint: v.c.views.text("users.unknown.hint")}}
	}
	return users[i], nil
}

// changeUser changes what differs from the form as it was shown, and nothing else: a new password must not
// bring back the role or the repositories that another administrator has taken meanwhile.
func (v *visit) changeUser() error {
	name, role, repositories := v.r.PathValue("name"), v.field("role"), v.lines("repositories")
	was := api.User{Role: v.field("was-role"), Repositories: v.r.PostForm["was-repository"]}
	change := api.UserChange{Password: v.password()}
	if role != was.Role {
		change.Role = role
	}
	if was.Role == "" || !slices.Equal(repositories, was.Repositories) {
		granted := repositories
		if len(granted) == 0 {
			granted = []string{"*"} // the control API takes no empty list for all of them
		}
		change.Repositories = &granted
	}
	if change == (api.UserChange{}) {
		return v.done("/users", v.c.views.text("users.unchanged", name))
	}
	if _, err := v.c.api.ChangeUser(v.r.Context(), name, change); err != nil {
		failed := problemOf(err)
		u, gone := v.named()
		if gone != nil {
			return gone
		}
		u.Role, u.Repositories = cmp.Or(role, u.Role), repositories
		return v.showUser(statusOf(err), u, was, &failed)
	}
	if change.Password != "" {
		return v.showSecret(name, change.Password, v.c.views.text("users.changed", name))
	}
	return v.done("/users", v.c.views.text("users.changed", name))
}

func (v *visit) askDeleteUser() error {
	u, err := v.named()
	if err != nil {
		return err
	}
	return v.show("user-delete", "users", u.Name, userPage{CSRF: v.session.CSRF, User: u, Self: u.Name == v.session.Identity.Name})
}

func (v *visit) deleteUser() error {
	name := v.r.PathValue("name")
	if err := v.c.api.DeleteUser(v.r.Context(), name); err != nil {
		return err
	}
	return v.done("/users", v.c.views.text("users.deleted", name))
}
