package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgpassfile"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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

// refresh reads the password of an address again, for each connection: it may have been changed. Of several hosts
// each has the one of its line in the file; the driver would send that of the first to all.
func refresh(text string) func(context.Context, *pgx.ConnConfig) error {
	return func(_ context.Context, c *pgx.ConnConfig) error {
		now, err := parse(text)
		if err != nil {
			return err
		}
		c.Password = now.Password
		a, err := pgurl.Parse(text)
		if err != nil {
			return err
		}
		file := passfileOf(a)
		if file == "" || os.Getenv("PGPASSWORD") != "" {
			return nil
		}
		lines, err := pgpassfile.ReadPassfile(file)
		if err != nil {
			return nil // parse refuses one that is named
		}
		eachHost(c, lines)
		return nil
	}
}

// eachHost has a connection log in with the password of the host that it has reached.
func eachHost(c *pgx.ConnConfig, lines *pgpassfile.Passfile) {
	all := hostsOf(c)
	reached := map[string]host{} // by address and port
	lookup := c.LookupFunc
	c.LookupFunc = func(ctx context.Context, name string) ([]string, error) {
		addresses, err := lookup(ctx, name)
		for _, a := range addresses {
			for _, h := range all {
				if at := net.JoinHostPort(a, h.port); h.name == name && reached[at].name == "" {
					reached[at] = h
				}
			}
		}
		return addresses, err
	}
	c.AfterNetConnect = func(_ context.Context, c *pgconn.Config, conn net.Conn) (net.Conn, error) {
		at := conn.RemoteAddr().String()
		h := reached[at]
		if _, port, found := strings.Cut(at, ".s.PGSQL."); found && conn.RemoteAddr().Network() == "unix" {
			h = host{"localhost", port}
		}
		c.Password = lines.FindPassword(h.name, h.port, c.Database, c.User)
		return conn, nil
	}
}

// host is a host of an address as a file of passwords names it.
type host struct{ name, port string }

func hostsOf(c *pgx.ConnConfig) (all []host) {
	for _, of := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		h := host{of.Host, strconv.Itoa(int(of.Port))}
		if network, _ := pgconn.NetworkAddress(of.Host, of.Port); network == "unix" {
			h.name = "localhost"
		}
		all = append(all, h)
	}
	return all
}

// passfileOf returns the path of the file of passwords, "" for none.
func passfileOf(a pgurl.Address) string {
	if a.Passfile != "" {
		return a.Passfile
	}
	if name := os.Getenv("PGPASSFILE"); name != "" {
		return name
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".pgpass")
}

// CheckLogin returns an error if the file of passwords that an address names has no line for one of its hosts.
func CheckLogin(text string) error {
	a, err := pgurl.Parse(text)
	if err != nil || a.Passfile == "" {
		return err
	}
	c, err := parse(text)
	if err != nil {
		return err
	}
	lines, err := pgpassfile.ReadPassfile(a.Passfile)
	if err != nil {
		return &loginError{"it cannot be read", "write a line HOST:PORT:NAME:USER:PASSWORD into it", err}
	}
	for _, h := range hostsOf(c) {
		if lines.FindPassword(h.name, h.port, c.Database, c.User) == "" {
			return &loginError{what: fmt.Sprintf("%s has no line for host %s, port %s, database %s and user %s", a.Passfile, h.name, h.port, c.Database, c.User),
				next: fmt.Sprintf("write a line into it: %s:%s:%s:%s:PASSWORD, each with a * for any", h.name, h.port, c.Database, c.User)}
		}
	}
	return nil
}

// connect opens a connection of its own.
func (db *DB) connect(ctx context.Context, c *pgx.ConnConfig) (*pgx.Conn, error) {
	connect := func(ctx context.Context, host *pgx.ConnConfig) (*pgx.Conn, error) {
		if err := refresh(db.server.options.Address)(ctx, host); err != nil {
			return nil, err
		}
		return pgx.ConnectConfig(ctx, host)
	}
	conn, err := newest(ctx, db.server.primaries, c, connect, (*pgx.Conn).PgConn)
	db.server.watch.leave(db.server.primaries)
	return conn, err
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
	name := passfileOf(a)
	if name == "" {
		return nil // a user without a home directory
	}
	err := checkSecret(name, "write a line HOST:PORT:NAME:USER:PASSWORD into it")
	if a.Passfile != "" || os.Getenv("PGPASSFILE") != "" {
		return err
	}
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
		return &loginError{"it cannot be read", about + ", give it to the user who runs the registry, and close it to others: " + hint.Words("chmod", "600", name), err}
	case !info.Mode().IsRegular():
		return &loginError{what: name + " is not a regular file", next: "name a file; " + about}
	case info.Mode().Perm()&0o077 != 0:
		return &loginError{what: fmt.Sprintf("other users may read or write %s (mode %04o)", name, info.Mode().Perm()), next: "close it to them: " + hint.Words("chmod", "600", name)}
	}
	return nil
}
