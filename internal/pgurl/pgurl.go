// Package pgurl checks the address of a database in PostgreSQL, as a configuration has it and as
// libpq's programs take it:
//
//	postgres://USER@HOST:PORT,HOST:PORT/NAME?sslmode=verify-full&passfile=/FILE
//
// Use Is to tell it from a path, and Parse to check it. What connects reads the text itself. Refused:
// passwords in the address, which is shown and logged, and parameters that libpq does not know, such
// as those with a typing error, which would leave a connection without TLS.
package pgurl

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Unreachable is what to look at while the server of a database does not answer.
const Unreachable = "see whether PostgreSQL runs and can be reached from here (pg_isready)"

// Again is Unreachable for a daemon.
const Again = Unreachable + "; the appliance connects again by itself"

// Address is the place of a database, and the files that a connection to it reads.
type Address struct {
	User, Hosts, Name string
	Encrypted         bool   // no connection is made without TLS
	Passfile          string // "": that of the environment, or none
	Key               string // of a client's certificate; "" for none
	Certificates      []string
}

// Is reports whether text is meant as an address.
func Is(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

var (
	oneHost = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(:[0-9]{1,5})?$`)
	sslMode = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	// sessionAttrs are those of libpq that a primary has: what connects looks for it whichever is there.
	sessionAttrs = []string{"any", "read-write", "primary"}
	// plainKeys are parameters of which no file is read.
	plainKeys = []string{"host", "port", "connect_timeout", "target_session_attrs", "options", "sslsni", "sslnegotiation",
		"sslcertmode", "channel_binding", "require_auth"}
)

// Parse reads an address. Its error does not repeat what may be a password.
func Parse(text string) (Address, error) {
	_, rest, found := strings.Cut(text, "://")
	if !found || !Is(text) {
		return Address{}, errors.New("it does not begin with postgres://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, name, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	user, err1 := url.PathUnescape(authority[:max(at, 0)])
	name, err2 := url.PathUnescape(name)
	a := Address{User: user, Hosts: authority[at+1:], Name: name}
	switch {
	case strings.Contains(user, ":"):
		return Address{}, errors.New("it has a password, which belongs into a file")
	case err1 != nil || err2 != nil || user == "":
		return Address{}, errors.New("it has no USER@ before the host")
	case a.Name == "" || strings.Contains(a.Name, "/"):
		return Address{}, errors.New("it has no name of a database after the host")
	case strings.Contains(query, "#"):
		return Address{}, errors.New("it has a part after #, which has no meaning here")
	}
	for _, host := range strings.Split(a.Hosts, ",") {
		m := oneHost.FindStringSubmatch(host)
		if m == nil {
			return Address{}, errors.New("its hosts are not of the form HOST:PORT,HOST:PORT")
		}
		if m[2] != "" && !isPort(m[2][1:]) {
			return Address{}, errors.New("a port is a number from 1 to 65535")
		}
	}
	if err := a.parameters(query); err != nil {
		return Address{}, err
	}
	return a, nil
}

// parameters reads what comes after the question mark.
func (a *Address) parameters(query string) error {
	all, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("its part after ? is malformed")
	}
	for key, values := range all {
		if key == "password" || key == "sslpassword" {
			return errors.New("it has a password, which belongs into a file")
		}
		if len(values) != 1 || values[0] == "" {
			return fmt.Errorf("%.40q needs one value", key)
		}
		if err := a.parameter(key, values[0]); err != nil {
			return err
		}
	}
	if a.Hosts == "" && !all.Has("host") {
		return errors.New("it has no host; that of a socket is ?host=/run/postgresql")
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n > 0 && n < 1<<16
}

func (a *Address) parameter(key, value string) error {
	switch {
	case key == "port" && slices.ContainsFunc(strings.Split(value, ","), func(one string) bool { return !isPort(one) }):
		return errors.New("a port is a number from 1 to 65535")
	case key == "connect_timeout":
		if _, err := strconv.ParseUint(value, 10, 31); err != nil {
			return errors.New("connect_timeout is a number of seconds")
		}
		return nil
	case key == "target_session_attrs" && !slices.Contains(sessionAttrs, value):
		return fmt.Errorf("target_session_attrs is one of %s: the primary is used", strings.Join(sessionAttrs, ", "))
	case slices.Contains(plainKeys, key):
		return nil
	case key == "sslmode":
		if !slices.Contains(sslMode, value) {
			return fmt.Errorf("sslmode is one of %s", strings.Join(sslMode, ", "))
		}
		a.Encrypted = !slices.Contains(sslMode[:3], value)
		return nil
	case key == "sslrootcert" && value == "system":
		a.Encrypted = true // which implies verify-full
		return nil
	}
	switch key {
	case "passfile":
		a.Passfile = value
	case "sslkey":
		a.Key = value
	case "sslcert", "sslrootcert":
		a.Certificates = append(a.Certificates, value)
	default:
		return fmt.Errorf("%.40q is not a parameter that is known; there are sslmode, sslrootcert, sslcert, sslkey, passfile, %s",
			key, strings.Join(plainKeys, ", "))
	}
	if !filepath.IsAbs(value) {
		return fmt.Errorf("%s is not a whole path, beginning with /", key)
	}
	return nil
}

// String returns the address without its parameters, for messages.
func (a Address) String() string { return "postgres://" + a.User + "@" + a.Hosts + "/" + a.Name }
