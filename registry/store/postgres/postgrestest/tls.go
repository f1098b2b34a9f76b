package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// Listen has the server take connections on 127.0.0.1, with TLS only, and returns the port. Users log in with a
// password, and the user certified with a certificate of the CA. All three are PEM.
func (s *Server) Listen(ctx context.Context, certificate, key, ca []byte) (port int, err error) {
	rules := localRules + "hostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
	for name, content := range map[string][]byte{"server.crt": certificate, "server.key": key, "ca.crt": ca, "pg_hba.conf": []byte(rules)} {
		if err := s.write(filepath.Join(s.data(), name), content); err != nil {
			return 0, err
		}
	}
	c, err := pgx.Connect(ctx, s.address("postgres"))
	if err != nil {
		return 0, err
	}
	for _, set := range []string{"ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'", "ssl_ca_file = 'ca.crt'"} {
		if _, err := c.Exec(ctx, "ALTER SYSTEM SET "+set); err != nil {
			return 0, errors.Join(fmt.Errorf("set %s: %w", set, err), c.Close(ctx))
		}
	}
	if err := errors.Join(c.Close(ctx), s.Halt()); err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, err
	}
	return s.port, s.Begin(ctx)
}

// write writes a file of the server's user.
func (s *Server) write(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil || s.owner == nil {
		return err
	}
	return os.Chown(path, int(s.owner.Uid), int(s.owner.Gid))
}
