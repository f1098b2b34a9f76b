package postgres

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const defaultPort = 5432

// hostName returns a host as messages name it.
func hostName(host string, port uint16) string {
	if network, _ := pgconn.NetworkAddress(host, port); network == "unix" || port == defaultPort {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// nameOf returns the address of a database without its password. It names all hosts: which of them is the primary changes.
func nameOf(c *pgx.ConnConfig) string {
	hosts := []string{hostName(c.Host, c.Port)}
	for _, other := range c.Fallbacks {
		if name := hostName(other.Host, other.Port); !slices.Contains(hosts, name) { // sslmode=prefer has each twice
			hosts = append(hosts, name)
		}
	}
	return "postgres://" + c.User + "@" + strings.Join(hosts, ",") + "/" + c.Database
}

// hostsError has why there is no connection, for each host that was asked. The driver's text is so long that a line of a
// log has no room for it.
type hostsError struct {
	names []string
	errs  []error
}

func (e *hostsError) Error() string {
	all := make([]string, len(e.errs))
	for i, err := range e.errs {
		all[i] = e.names[i] + ": " + strings.Join(slices.Compact(reasons(err)), ", ")
	}
	return strings.Join(all, "; ")
}

func (e *hostsError) Unwrap() []error { return e.errs }

// reasons returns why there is no connection to a host, for each attempt.
func reasons(err error) []string {
	var failed *pgconn.ConnectError
	if errors.As(err, &failed) {
		err = failed.Unwrap()
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, err := range several.Unwrap() {
			all = append(all, reasons(err)...)
		}
		return all
	}
	var from *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(err, &from):
		return []string{from.Message}
	case errors.As(err, &network):
		return []string{network.Err.Error()}
	}
	return []string{err.Error()}
}
