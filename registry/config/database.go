package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
)

// setDatabase takes the path of a file or the address of a database in PostgreSQL.
func (c *Config) setDatabase(name string) error {
	c.Database, c.server = name, ""
	if !strings.Contains(name, "://") {
		if strings.ContainsAny(name, "@=") && !filepath.IsAbs(name) { // meant as an address; it may have a password, which is not repeated
			return complaint("it is neither an absolute path nor an address that begins with postgres://",
				"write postgres://USER@HOST:PORT/NAME?sslmode=verify-full&passfile=/FILE, and the password into that file")
		}
		return absolute(&c.Database)()
	}
	c.Database, c.server = "", name
	if _, err := pgurl.Parse(name); err != nil {
		return complaint("the address of the database is wrong: "+err.Error(),
			"write postgres://USER@HOST:PORT/NAME?sslmode=verify-full&passfile=/FILE, and the password into that file, as psql takes both")
	}
	return nil
}

// DatabaseServer returns the address of the database in PostgreSQL, or "" when it is the file Database.
func (c *Config) DatabaseServer() string { return c.server }

// besideSocket names the files of the daemon that are beside the database, or would be: what it makes
// again when it is lost.
func (c *Config) besideSocket() {
	if c.server != "" {
		c.Database = filepath.Join(filepath.Dir(c.ControlSocket), "appliance.db")
	}
}

// NeedsFile returns an error if the database is in PostgreSQL, for what needs that it is a file.
func (c *Config) NeedsFile(what, next string) error {
	if c.server == "" {
		return nil
	}
	return hint.New(fmt.Errorf("%s does not work with the database in PostgreSQL that `database:` of config.yaml names", what), next)
}
