//go:build postgres

package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// pair is a certificate and its key, both PEM.
type pair struct {
	certificate, key []byte
	parsed           *x509.Certificate
	signer           *ecdsa.PrivateKey
}

// certify makes a certificate that by signs, or a CA.
func certify(t *testing.T, name string, by *pair) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	parent, signer := c, key
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, signer = by.parsed, by.signer
		if ip := net.ParseIP(name); ip != nil {
			c.IPAddresses = []net.IP{ip}
		} else {
			c.DNSNames = []string{name}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(t, err)
	secret, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), parsed, key}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOpen_overTLS logs in at a server with a certificate of a CA, by passwords and by a certificate.
func TestOpen_overTLS(t *testing.T) {
	ctx := t.Context()
	ca, other := certify(t, "ca", nil), certify(t, "other", nil)
	good, client := certify(t, "127.0.0.1", &ca), certify(t, "certified", &ca)
	server, err := postgrestest.Start(ctx)
	must(t, err)
	defer func() { must(t, server.Stop()) }()
	port, err := server.Listen(ctx, good.certificate, good.key, ca.certificate)
	must(t, err)
	_, super, err := server.Database(ctx, "")
	must(t, err)
	beside, err := Beside(super, nil)
	must(t, err)
	for _, text := range []string{`CREATE ROLE login LOGIN PASSWORD 'secret'`, `CREATE ROLE certified LOGIN`, `GRANT ALL ON SCHEMA public TO login, certified`} {
		_, err := beside.ExecContext(ctx, text)
		must(t, err)
	}
	must(t, beside.Close())
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, content, 0o600))
		return path
	}
	pass := write("pgpass", fmt.Appendf(nil, "127.0.0.1:%d:test1:login:secret\nlocalhost:*:*:login:secret\n", port))
	right, wrong := write("ca", ca.certificate), write("other", other.certificate)
	files := "&sslcert=" + write("client.crt", client.certificate) + "&sslkey=" + write("client.key", client.key)
	for name, tc := range map[string]struct {
		user, host, more string
		want, next       string // of the error; "" for none
	}{
		"the right CA":                     {"login", "127.0.0.1", "&sslmode=verify-full&passfile=" + pass + "&sslrootcert=" + right, "", ""},
		"a wrong CA":                       {"login", "127.0.0.1", "&sslmode=verify-full&passfile=" + pass + "&sslrootcert=" + wrong, "unknown authority", "let sslrootcert= in"},
		"a name that it does not have":     {"login", "localhost", "&sslmode=verify-full&passfile=" + pass + "&sslrootcert=" + right, "wanted to match localhost", "be a name in that certificate"},
		"that name, where it is not asked": {"login", "localhost", "&sslmode=verify-ca&passfile=" + pass + "&sslrootcert=" + right, "", ""},
		"without TLS":                      {"login", "127.0.0.1", "&sslmode=disable&passfile=" + pass, "no encryption", "pg_hba.conf"},
		"a certificate":                    {"certified", "127.0.0.1", "&sslmode=verify-full&sslrootcert=" + right + files, "", ""},
		"none":                             {"certified", "127.0.0.1", "&sslmode=verify-full&sslrootcert=" + right, "", "pg_hba.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			// A role that does not own the database has no table of ours: to log in is what is tried.
			db, err := Beside(fmt.Sprintf("postgres://%s@%s:%d/test1?%s", tc.user, tc.host, port, strings.TrimPrefix(tc.more, "&")), nil)
			must(t, err)
			defer func() { must(t, db.Close()) }()
			var user string
			var encrypted bool
			err = db.QueryRowContext(ctx, `SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&user, &encrypted)
			if tc.next == "" {
				if err != nil || user != tc.user || !encrypted {
					t.Errorf("user %s, encrypted %v, %v", user, encrypted, err)
				}
				return
			}
			var down *database.UnavailableError
			if !errors.As(err, &down) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), tc.next) || !lasting(err) {
				t.Errorf("got %v, hint %q, lasting %v", err, hint.Of(err), lasting(err))
			}
		})
	}
}

// Each of several hosts has the password of its own line, as with libpq.
func TestOpen_severalHosts(t *testing.T) {
	ctx := t.Context()
	ca := certify(t, "ca", nil)
	var ports []int
	var lines string
	for i, name := range []string{"127.0.0.1", "localhost"} {
		leaf := certify(t, name, &ca)
		server, err := postgrestest.Start(ctx)
		must(t, err)
		defer func() { must(t, server.Stop()) }()
		port, err := server.Listen(ctx, leaf.certificate, leaf.key, ca.certificate)
		must(t, err)
		_, super, err := server.Database(ctx, "")
		must(t, err)
		db, err := Beside(super, nil)
		must(t, err)
		_, err = db.ExecContext(ctx, fmt.Sprintf(`CREATE ROLE login LOGIN PASSWORD 'secret%d'; CREATE TABLE which (n int); INSERT INTO which VALUES (%[1]d); GRANT SELECT ON which TO login`, i))
		must(t, err)
		if i == 0 {
			for _, text := range []string{`ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`} {
				_, err := db.ExecContext(ctx, text)
				must(t, err)
			}
		}
		must(t, db.Close())
		ports = append(ports, port)
		lines += fmt.Sprintf("%s:%d:test1:login:secret%d\n", name, port, i)
	}
	file := filepath.Join(t.TempDir(), "pgpass")
	must(t, os.WriteFile(file, []byte(lines), 0o600))
	address := fmt.Sprintf("postgres://login@127.0.0.1:%d,localhost:%d/test1?target_session_attrs=read-write&sslmode=require&passfile=%s", ports[0], ports[1], file)
	must(t, CheckLogin(address))
	db, err := Beside(address, nil)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	var n int
	if err := db.QueryRowContext(ctx, `SELECT n FROM which`).Scan(&n); err != nil || n != 1 {
		t.Errorf("the server is %d, %v", n, err)
	}
	first, _, _ := strings.Cut(lines, "\n")
	must(t, os.WriteFile(file, []byte(first+"\n"), 0o600))
	err = CheckLogin(address)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("no line for host localhost, port %d, database test1 and user login", ports[1])) ||
		!strings.Contains(hint.Of(err), fmt.Sprintf("localhost:%d:test1:login:PASSWORD", ports[1])) {
		t.Errorf("a line that lacks: %v, hint %q", err, hint.Of(err))
	}
}
