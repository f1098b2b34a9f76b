package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/internal/s3url"
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

// Shared reports whether other daemons may have the database and the bucket as well.
func (c *Config) Shared() bool { return c.SharedKey != "" }

// PortHere returns the port that the daemon of this host is to listen on. Before several daemons may be a balancer, to
// which clients come on another port.
func (c *Config) PortHere() int {
	_, text, err := net.SplitHostPort(c.Listen)
	if port, nerr := strconv.Atoi(text); c.Shared() && err == nil && nerr == nil && port != 0 {
		return port
	}
	return c.Port
}

// checkShared checks that what several daemons have can be had by several.
func (c *Config) checkShared() (string, error) {
	switch {
	case !c.Shared():
		return "", nil
	case c.server == "" || !s3url.Is(c.Storage):
		return "sharedKey", complaint("given, and the database and the storage are not both such that several daemons can have them",
			"name PostgreSQL in database: and a bucket in storage:, see appliance docs several, or take sharedKey out: one daemon needs none")
	case c.TLS.ACME.Directory != "":
		return "tls.acme.directory", complaint("given together with sharedKey: the challenge of the ACME server may reach another daemon than the one that asked",
			"have an ACME client renew a certificate of your own, in certificate and key without caKey, or leave acme out and let the appliance's CA sign")
	}
	return "", nil
}

// DatabaseName returns the path of the database, or its address without parameters.
func (c *Config) DatabaseName() string {
	if address, err := pgurl.Parse(c.server); err == nil {
		return address.String()
	}
	return c.Database
}

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
