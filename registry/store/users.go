package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// User is an account. What a role may do, and how a password is hashed, is package auth's affair.
type User struct {
	Name, Role       string
	PasswordHash     []byte
	Created, Updated time.Time // set by the store
}

const selectUser = `SELECT name, role, password_hash, created, updated FROM users`

func scanUser(scan func(...any) error) (User, error) {
	var u User
	var created, updated int64
	err := scan(&u.Name, &u.Role, &u.PasswordHash, &created, &updated)
	u.Created, u.Updated = fromNanos(created), fromNanos(updated)
	return u, err
}

// User reads an account.
func (s *Store) User(ctx context.Context, name string) (User, error) {
	u, err := scanUser(s.reader.QueryRowContext(ctx, selectUser+` WHERE name = ?`, name).Scan)
	if err != nil {
		return User{}, orNotFound(err, "user", quoted(name))
	}
	return u, nil
}

// Users lists the accounts by name.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	users := []User{}
	scan := func(rows *sql.Rows) error {
		u, err := scanUser(rows.Scan)
		users = append(users, u)
		return err
	}
	if err := query(ctx, s.reader, scan, selectUser+` ORDER BY name`); err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// PutUser makes an account, or changes its role and password.
func (s *Store) PutUser(ctx context.Context, u User) error {
	if u.Name == "" {
		return &InvalidError{What: "user", Why: "it has no name"}
	}
	if u.PasswordHash == nil {
		u.PasswordHash = []byte{} // an account that nobody can log in to; the column is never null
	}
	now := nanos(s.now())
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO users (name, role, password_hash, created, updated) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET role = excluded.role, password_hash = excluded.password_hash, updated = excluded.updated`,
			u.Name, u.Role, u.PasswordHash, now, now)
		if err != nil {
			return fmt.Errorf("put user %s: %w", quoted(u.Name), err)
		}
		return nil
	})
}

// DeleteUser deletes an account.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		n, err := affected(ctx, tx, `DELETE FROM users WHERE name = ?`, name)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "user", Name: quoted(name)}
		}
		return err
	})
}
