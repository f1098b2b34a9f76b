package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
)

// loginError reports a file with a secret that is not used.
type loginError struct {
	what, next string
	err        error // nil: what says all
}

func (e *loginError) Error() string {
	if e.err == nil {
		return "the login of the database: " + e.what
	}
	return fmt.Sprintf("the login of the database: %s: %v", e.what, e.err)
}
func (e *loginError) Unwrap() error { return e.err }

// Hint returns the next step.
func (e *loginError) Hint() string { return e.next }

// refresh reads the password of an address again, for each connection: it may have been changed.
func refresh(text string) func(context.Context, *pgx.ConnConfig) error {
	return func(_ context.Context, c *pgx.ConnConfig) error {
		now, err := parse(text)
		if err == nil {
			c.Password = now.Password
		}
		return err
	}
}

// connect opens a connection of its own.
func (db *DB) connect(ctx context.Context, c *pgx.ConnConfig) (*pgx.Conn, error) {
	if err := refresh(db.server.options.Address)(ctx, c); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, c)
}

// parse reads an address and the files that it leads to. The driver passes over a file of passwords
// that it cannot read, and reads one that others can read too, which libpq does not: both are errors.
func parse(text string) (*pgx.ConnConfig, error) {
	a, err := pgurl.Parse(text)
	if err == nil {
		err = checkSecrets(a)
	}
	var login *loginError
	if errors.As(err, &login) {
		return nil, err
	}
	var c *pgx.ConnConfig
	if err == nil {
		c, err = pgx.ParseConfig(text) // whose error has no password
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("the address of the database: %w", err),
			"write `database: postgres://USER@HOST:PORT/NAME?sslmode=verify-full&passfile=/FILE` into config.yaml, and the password into that file")
	}
	return c, nil
}

// checkSecrets checks the files with secrets that an address leads to.
func checkSecrets(a pgurl.Address) error {
	if a.Key != "" {
		if err := checkSecret(a.Key, "it is the key of the certificate that sslcert names"); err != nil {
			return err
		}
	}
	const write = "write a line HOST:PORT:NAME:USER:PASSWORD into it"
	if a.Passfile != "" {
		return checkSecret(a.Passfile, write)
	}
	if name := os.Getenv("PGPASSFILE"); name != "" {
		return checkSecret(name, write)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil // it has no file either
	}
	err = checkSecret(filepath.Join(home, ".pgpass"), write)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // as is usual for a service
		return nil
	}
	return err
}

// checkSecret returns a *loginError unless name is a file that this process can read, and no other
// user.
func checkSecret(name, about string) error {
	info, err := os.Stat(name)
	if err == nil && info.Mode().IsRegular() {
		var f *os.File
		if f, err = os.Open(name); err == nil {
			err = f.Close()
		}
	}
	switch {
	case err != nil:
		return &loginError{"it cannot be read", about + ", give it to the user who runs the registry, and close it to others: chmod 600 " + name, err}
	case !info.Mode().IsRegular():
		return &loginError{what: name + " is not a regular file", next: "name a file; " + about}
	case info.Mode().Perm()&0o077 != 0:
		return &loginError{what: fmt.Sprintf("other users may read or write %s (mode %04o)", name, info.Mode().Perm()), next: "close it to them: chmod 600 " + name}
	}
	return nil
}
