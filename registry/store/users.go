package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// User is an account. Package auth knows its role, and hashes its password.
type User struct {
	Name, Role       string
	Repositories     []string // glob patterns of the repositories it may use; empty: all
	PasswordHash     []byte
	Created, Updated time.Time // set by the store
}

const selectUser = `SELECT name, role, repositories, password_hash, created, updated FROM users`

func scanUser(scan func(...any) error) (User, error) {
	var u User
	var repositories string
	var created, updated int64
	err := scan(&u.Name, &u.Role, &repositories, &u.PasswordHash, &created, &updated)
	if repositories != "" {
		u.Repositories = strings.Split(repositories, "\n")
	}
	u.Created, u.Updated = database.Time(created), database.Time(updated)
	return u, err
}

// Get returns an account.
func (s *Users) Get(ctx context.Context, name string) (User, error) {
	u, err := scanUser(s.db.Reader().QueryRowContext(ctx, selectUser+` WHERE name = ?`, name).Scan)
	if err != nil {
		return User{}, orNotFound(err, "user", image.Quote(name))
	}
	return u, nil
}

// List lists the accounts by name.
func (s *Users) List(ctx context.Context) ([]User, error) {
	users := []User{}
	scan := func(rows *sql.Rows) error {
		u, err := scanUser(rows.Scan)
		users = append(users, u)
		return err
	}
	if err := database.Query(ctx, s.db.Reader(), scan, selectUser+` ORDER BY name`); err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// Put creates an account, or changes its role, repositories and password. A malformed pattern of a
// repository is an *image.PatternError. On a full disk an account can still be changed, since its
// password may have leaked; a new one is a *FullError.
func (s *Users) Put(ctx context.Context, u User) error {
	if u.Name == "" {
		return &InvalidError{What: "user", Reason: "it has no name"}
	}
	for _, pattern := range u.Repositories {
		if err := image.CheckPattern(pattern); err != nil {
			return err
		}
	}
	if u.PasswordHash == nil {
		u.PasswordHash = []byte{} // an account without a login
	}
	err := s.db.Freeing(func() error { // a read may have to write the index of the WAL
		_, err := s.Get(ctx, u.Name)
		return err
	})
	if err == nil {
		return s.db.Freeing(func() error { return s.putUser(ctx, u) })
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	return s.putUser(ctx, u)
}

func (s *core) putUser(ctx context.Context, u User) error {
	now := database.Nanos(s.now())
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO users (name, role, repositories, password_hash, created, updated)
			VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET role = excluded.role, repositories = excluded.repositories, password_hash = excluded.password_hash, updated = excluded.updated`,
			u.Name, u.Role, strings.Join(u.Repositories, "\n"), u.PasswordHash, now, now)
		if err != nil {
			return fmt.Errorf("put user %s: %w", image.Quote(u.Name), err)
		}
		return nil
	})
}

// Delete deletes an account, on a full disk too.
func (s *Users) Delete(ctx context.Context, name string) error {
	return s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		n, err := database.Affected(ctx, tx, `DELETE FROM users WHERE name = ?`, name)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "user", Name: image.Quote(name)}
		}
		return err
	})
}
