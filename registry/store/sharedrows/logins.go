package sharedrows

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Logins are the sessions of the console by the hashes of their cookies, see registry/auth. Times are
// those of the hosts.
type Logins struct{ db database.Rows }

// Login is a session.
type Login struct {
	Token       []byte // a hash
	User        string
	Password    []byte // a hash of the hash of the password
	Notice      string
	Began, Used time.Time
}

// Add adds a login, and removes the least recently used ones beyond so many of its user and of all.
func (l *Logins) Add(ctx context.Context, login Login, mostUser, most int) error {
	return l.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		for _, s := range []struct {
			text string
			args []any
		}{
			{`DELETE FROM logins WHERE token IN (SELECT token FROM logins WHERE "user" = ? ORDER BY used DESC, token OFFSET ?)`, []any{login.User, mostUser - 1}},
			{`DELETE FROM logins WHERE token IN (SELECT token FROM logins ORDER BY used DESC, token OFFSET ?)`, []any{most - 1}},
			{`INSERT INTO logins (token, "user", password, notice, began, used) VALUES (?, ?, ?, ?, ?, ?)`,
				[]any{login.Token, login.User, login.Password, login.Notice, database.Nanos(login.Began), database.Nanos(login.Used)}},
		} {
			if _, err := tx.ExecContext(ctx, s.text, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Get returns a login, nil if there is none.
func (l *Logins) Get(ctx context.Context, token []byte) (*Login, error) {
	login := Login{Token: token}
	var began, used int64
	err := l.db.Reader().QueryRowContext(ctx, `SELECT "user", password, notice, began, used FROM logins WHERE token = ?`, token).
		Scan(&login.User, &login.Password, &login.Notice, &began, &used)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	login.Began, login.Used = database.Time(began), database.Time(used)
	return &login, err
}

// Use writes when a login was used.
func (l *Logins) Use(ctx context.Context, token []byte, at time.Time) error {
	return l.exec(ctx, `UPDATE logins SET used = ?2 WHERE token = ?1 AND used < ?2`, token, database.Nanos(at))
}

// SetNotice writes the text for the next page of a login.
func (l *Logins) SetNotice(ctx context.Context, token []byte, notice string) error {
	return l.exec(ctx, `UPDATE logins SET notice = ? WHERE token = ?`, notice, token)
}

// End removes a login.
func (l *Logins) End(ctx context.Context, token []byte) error {
	return l.exec(ctx, `DELETE FROM logins WHERE token = ?`, token)
}

// Sweep removes the logins that were last used or begun before those times.
func (l *Logins) Sweep(ctx context.Context, used, began time.Time) error {
	return l.exec(ctx, `DELETE FROM logins WHERE used < ? OR began < ?`, database.Nanos(used), database.Nanos(began))
}

// exec runs a statement that must work on a full disk: a logout is one.
func (l *Logins) exec(ctx context.Context, text string, args ...any) error {
	return l.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, text, args...)
		return err
	})
}
