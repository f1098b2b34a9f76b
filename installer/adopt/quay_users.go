package adopt

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// user is an account of the other registry. Either Hash or Password is set.
type user struct {
	Name         string
	Role         string // pull, push or admin
	Hash         string // bcrypt
	Password     string
	Repositories []string // patterns; none: everything
}

// Accounts are those of the appliance; *client.Client has them.
type Accounts interface {
	Users(ctx context.Context) ([]api.User, error)
	CreateUser(ctx context.Context, q api.NewUser) (api.User, error)
}

// importUsers makes accounts. One that exists stays as it is. to is nil for a dry run.
func importUsers(ctx context.Context, users []user, to Accounts, report *Report) error {
	var there []api.User
	if to != nil {
		var err error
		if there, err = to.Users(ctx); err != nil {
			return err
		}
	}
	for _, u := range users {
		if slices.ContainsFunc(there, func(have api.User) bool { return have.Name == u.Name }) {
			continue
		}
		err := cmp.Or(auth.CheckName(u.Name), u.check())
		if err == nil && to != nil {
			_, err = to.CreateUser(ctx, api.NewUser{Name: u.Name, Role: u.Role, Password: u.Password,
				PasswordHash: u.Hash, Repositories: u.Repositories})
			if err != nil && !mismatch(err) {
				return fmt.Errorf("create user %s: %w", u.Name, err)
			}
		}
		if err != nil {
			report.Problems = append(report.Problems, Problem{Name: u.Name, What: err.Error()})
			continue
		}
		report.Users = append(report.Users, u.Name)
	}
	return nil
}

func (u user) check() error {
	if u.Hash != "" {
		return auth.CheckHash(u.Hash)
	}
	return auth.CheckPassword(u.Password)
}

// ImportUsers makes the accounts that can be taken over, and reports those that cannot. to is nil for a
// dry run.
func (s *Quay) ImportUsers(ctx context.Context, to Accounts, report *Report) error {
	users, problems, err := s.users(ctx)
	if err != nil {
		return err
	}
	report.Problems = append(report.Problems, problems...)
	return importUsers(ctx, users, to, report)
}

// quayUser is a row of Quay's users.
type quayUser struct {
	id                  int64
	name                string
	hash, token         sql.NullString
	robot, organization bool
	enabled             bool
	namespace           bool // that of pushed repositories, and not an account
	reads, writes       []string
}

// users returns the accounts that can be taken over, with the rights that they have at most here, and
// the problems of the others. A superuser is an administrator. An account here has one role for all
// its repositories: one that may push to some of them loses those that it may only pull.
func (s *Quay) users(ctx context.Context) (users []user, problems []Problem, err error) {
	all, err := s.quayUsers(ctx)
	if err != nil {
		return nil, nil, err
	}
	public, err := s.public(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		u := all[id]
		if u.organization || u.namespace {
			continue
		}
		taken, what := s.account(u, public)
		if what != "" {
			problems = append(problems, Problem{Name: u.name, What: what})
		}
		if taken != nil {
			users = append(users, *taken)
		}
	}
	return users, problems, nil
}

func (s *Quay) quayUsers(ctx context.Context) (map[int64]*quayUser, error) {
	all := map[int64]*quayUser{}
	err := s.query(ctx, func(rows *sql.Rows) error {
		u := &quayUser{}
		err := rows.Scan(&u.id, &u.name, &u.hash, &u.robot, &u.organization, &u.enabled, &u.token, &u.namespace)
		all[u.id] = u
		return err
	}, `SELECT u.id, u.username, u.password_hash, u.robot, u.organization, u.enabled, t.token,
			u.password_hash IS NULL AND u.email = u.username || '@namespace.local'
		FROM user u LEFT JOIN robotaccounttoken t ON t.robot_account_id = u.id`)
	if err != nil {
		return nil, err
	}
	err = s.query(ctx, func(rows *sql.Rows) error {
		var user, role int64
		var name string
		if err := rows.Scan(&user, &role, &name); err != nil {
			return err
		}
		const read = 3
		switch u := all[user]; {
		case u == nil:
		case role == read:
			u.reads = append(u.reads, name)
		default:
			u.writes = append(u.writes, name)
		}
		return nil
	}, `SELECT p.user_id, p.role_id, u.username || '/' || r.name FROM repositorypermission p
		JOIN repository r ON r.id = p.repository_id JOIN user u ON u.id = r.namespace_user_id
		WHERE p.user_id IS NOT NULL AND r.state <> 3`)
	return all, err
}

// firstUser returns the superuser of a mirror-registry 3 without a configuration.
func (s *Quay) firstUser(ctx context.Context) (names []string, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT username FROM user WHERE organization = 0 AND robot = 0 ORDER BY id LIMIT 1`)
	return names, err
}

// InitUser returns the name of a superuser, "" if there is none.
func (s *Quay) InitUser() string {
	if len(s.install.supers) == 0 {
		return ""
	}
	return s.install.supers[0]
}

// account returns the account for one of Quay's, or what is lost.
func (s *Quay) account(u *quayUser, public []string) (taken *user, lost string) {
	if !u.enabled {
		return nil, "it is disabled in Quay, and left out"
	}
	taken = &user{Name: u.name}
	if u.robot && s.install.robotsOff && !slices.Contains(s.install.robots, u.name) {
		return nil, "robots may not log in to Quay (ROBOTS_DISALLOW), and it is left out"
	}
	if u.robot {
		token, err := decryptToken(s.install.secret, u.token.String)
		if err != nil {
			return nil, fmt.Sprintf("its token cannot be read (%v): make it anew with appliance user add", err)
		}
		taken.Password = token
	} else if _, err := bcrypt.Cost([]byte(u.hash.String)); err != nil {
		return nil, "it has no password in Quay, and is left out"
	} else {
		taken.Hash = u.hash.String
	}
	return s.grant(u, taken, public)
}

// grant gives an account no more than it had.
func (s *Quay) grant(u *quayUser, taken *user, public []string) (*user, string) {
	if slices.Contains(s.install.supers, u.name) {
		taken.Role = "admin"
		return taken, ""
	}
	own := u.name + "/*"
	if !u.robot && image.CheckPattern(own) == nil {
		u.writes = append(u.writes, own)
	}
	only := slices.DeleteFunc(slices.Clone(u.reads), func(name string) bool {
		return slices.Contains(u.writes, name) || strings.HasPrefix(name, u.name+"/") && !u.robot
	})
	valid := func(names []string) []string {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return image.CheckPattern(name) != nil })
		slices.Sort(names)
		return slices.Compact(names)
	}
	if taken.Repositories = valid(u.writes); len(taken.Repositories) > 0 {
		taken.Role = "push"
		if len(only) > 0 {
			return taken, fmt.Sprintf("it can no longer pull %s, to which it may not push: an account has one role here",
				strings.Join(only, ", "))
		}
		return taken, ""
	}
	taken.Role = "pull"
	if taken.Repositories = valid(append(only, public...)); len(taken.Repositories) == 0 {
		return nil, "it may use no repository in Quay, other than by a team, and is left out"
	}
	return taken, ""
}
