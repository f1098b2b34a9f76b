//go:build e2e && postgres

package main_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// endsOrFails is a health check that fails, and that ends the daemon once there is a file: an upgrade waits a minute for the first.
const endsOrFails = `if _, err := os.Stat("` + endsIf + `"); err == nil {
		panic("made to end")
	}
	return errors.New("made to be unwell")`

const endsIf = "/etc/appliance/ends"

// TestUpgradeOnServers copies the store of an installed appliance to PostgreSQL and S3, and replaces the program there:
// by one that serves, and by one that does not become healthy.
func TestUpgradeOnServers(t *testing.T) {
	b := newBox(t, "servers")
	s := b.startServers(t)
	broken := b.variant(t, "broken", map[string]string{healthCheck: checks(t, endsOrFails)})
	const next = "/root/next" // which needs no other tables
	b.inside(t, "sh", "-c", "cp -p /root/appliance "+next+" && echo >>"+next)
	step := func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			t.FailNow()
		}
	}
	before := b.files(t)
	images := map[string]string{}
	serves := func(t *testing.T, program string) {
		t.Helper()
		b.healthy(t)
		b.inside(t, "cmp", program, installed)
		b.pullsAll(t, images)
		b.hasNoUpgrade(t)
	}
	step("install", func(t *testing.T) {
		out := b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost)
		m := installLine.FindStringSubmatch(out)
		if m == nil {
			t.Fatal(out)
		}
		b.trust(t)
		b.healthy(t)
		b.client(t, "skopeo", "login", "-u", "init", "-p", m[3], "--cert-dir", b.certs(), registryAddress)
		images["from/files"] = b.pushIndex(t, "from/files:v1")
	})
	step("the store is copied", func(t *testing.T) {
		b.copiesTo(t, s)
		images["on/servers"] = b.pushIndex(t, "on/servers:v1")
		serves(t, "/root/appliance")
	})
	step("no request fails", func(t *testing.T) {
		b.underLoad(t, func() { b.inside(t, next, "upgrade") })
		serves(t, next)
	})
	step("back and forth", func(t *testing.T) {
		b.inside(t, installed, "upgrade", "--rollback", "--autoApprove")
		serves(t, "/root/appliance")
		b.inside(t, installed, "upgrade", "--rollback", "--autoApprove")
		serves(t, next)
	})
	step("a daemon that is not healthy is taken back", func(t *testing.T) {
		b.inside(t, "touch", endsIf)
		b.fails(t, []string{"made to end", "taken back"}, "exec", broken, "upgrade")
		serves(t, next)
		b.inside(t, "rm", endsIf)
	})
	step("a power cut in the middle is taken back at boot", func(t *testing.T) {
		b.inside(t, "systemd-run", "--collect", broken, "upgrade")
		waitFor(t, "the new program", func() error {
			_, err := b.run("exec", "cmp", broken, installed)
			return err
		})
		b.must(t, "kill")
		b.must(t, "up")
		serves(t, next)
		if log := b.inside(t, "journalctl", "-b", "-u", "appliance-recover.service"); !strings.Contains(log, "taking back what was interrupted") {
			t.Errorf("this boot has taken nothing back:\n%s", log)
		}
	})
	step("an uninstall leaves the servers alone", func(t *testing.T) {
		images["last"] = b.pushIndex(t, "last:v1")
		b.inside(t, "systemctl", "stop", "appliance.socket", "appliance.service") // which writes until then
		content := s.content(t)
		out := b.inside(t, installed, "uninstall", "--autoApprove")
		for _, name := range []string{"the database " + strings.SplitN(s.database, "?", 2)[0], "the bucket " + s.storage} {
			if !strings.Contains(out, name) {
				t.Errorf("it does not name %s:\n%s", name, out)
			}
		}
		if now := s.content(t); now != content {
			t.Errorf("there was\n%s\nand is\n%s", content, now)
		}
		for name, digest := range images {
			if !strings.Contains(content, name+":v1 "+digest) {
				t.Errorf("%s is not in the database:\n%s", name, content)
			}
		}
		for _, left := range without(b.files(t), before) {
			t.Errorf("left: %s", left)
		}
	})
}

// servers are PostgreSQL and S3 on the machine of the test, and their addresses for the box.
type servers struct {
	database, storage string

	super  string // the address of the database for the test
	bucket *s3test.Server
}

// startServers starts both, as others keep them: with TLS, a password and a role that owns its database alone.
func (b *box) startServers(t *testing.T) *servers {
	t.Helper()
	rows, err := postgrestest.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, rows.Stop()) })
	ca, err := tlsgen.CreateCA("a database", time.Now())
	must(t, err)
	certificate, key, err := ca.IssueLeaf([]string{boxClientName}, time.Now())
	must(t, err)
	port, err := rows.Listen(t.Context(), certificate, key, ca.CertPEM())
	must(t, err)
	name, super, err := rows.Database(t.Context(), "")
	must(t, err)
	must(t, rows.Exec(t.Context(), `CREATE ROLE login LOGIN PASSWORD 'secret'`, `ALTER DATABASE `+name+` OWNER TO login`))
	bucket := s3test.Start(t)
	storage, at := bucket.Address(t, "")

	b.passes(t, "5432", fmt.Sprint("127.0.0.1:", port))
	b.passes(t, "9000", at.Endpoint.Host)
	b.writes(t, "/etc/appliance/db-ca.pem", string(ca.CertPEM()))
	b.writes(t, "/etc/appliance/pgpass", boxClientName+":5432:*:login:secret\n")
	credentials, err := os.ReadFile(bucket.Credentials)
	must(t, err)
	b.writes(t, "/etc/appliance/s3", string(credentials))
	return &servers{
		database: "postgres://login@" + boxClientName + ":5432/" + name + "?sslmode=verify-full&sslrootcert=/etc/appliance/db-ca.pem&passfile=/etc/appliance/pgpass",
		storage:  strings.Replace(storage, at.Endpoint.Host, boxClientName+":9000", 1),
		super:    super, bucket: bucket,
	}
}

// passes has connections to a port of the client, which the box reaches, go on to an address of this machine.
func (b *box) passes(t *testing.T, port, to string) {
	t.Helper()
	l := listenIn(t, b.network, boxClient+":"+port)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return // closed
			}
			go pass(from, to)
		}
	}()
}

func pass(from net.Conn, to string) {
	defer from.Close()
	c, err := net.Dial("tcp", to)
	if err != nil {
		return // the connection tells
	}
	go func() {
		_, _ = io.Copy(c, from) // ends with either
		_ = c.Close()
	}()
	_, _ = io.Copy(from, c)
}

// listenIn listens in another network namespace. The thread comes back: its end would be that of the servers that it
// has started.
func listenIn(t *testing.T, namespace, address string) net.Listener {
	t.Helper()
	own, err := os.Open("/proc/self/ns/net")
	must(t, err)
	defer own.Close()
	other, err := os.Open(namespace)
	must(t, err)
	defer other.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	must(t, unix.Setns(int(other.Fd()), unix.CLONE_NEWNET))
	l, err := net.Listen("tcp", address)
	must(t, errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)))
	return l
}

// writes puts a file into the box.
func (b *box) writes(t *testing.T, path, content string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(from, []byte(content), 0o600))
	b.must(t, "push", from, path)
}

// startWith is the command that a copy of the store ends with.
var startWith = regexp.MustCompile(`start it with the new configuration: (.*)`)

// copiesTo does what docs/database.md and docs/operate.md describe.
func (b *box) copiesTo(t *testing.T, s *servers) {
	t.Helper()
	const conf, other = "/root/quay-install/quay-config/config.yaml", "/root/quay-install/quay-config/new.yaml"
	b.inside(t, "sh", "-c", "chown appliance: /etc/appliance/*")
	b.inside(t, "cp", "-p", conf, other)
	for key, value := range map[string]string{"database": s.database, "storage": s.storage, "storageCredentials": "/etc/appliance/s3"} {
		b.inside(t, "sed", "-i", fmt.Sprintf("s|^%s: .*|%s: %s|", key, key, strings.ReplaceAll(value, "&", `\&`)), other)
		b.inside(t, "grep", "-qxF", key+": "+value, other)
	}
	command := []string{"exec", installed, "store", "copy", "--from", conf, "--to", other}
	b.fails(t, []string{"stop"}, command...)
	b.inside(t, "systemctl", "stop", "appliance.socket", "appliance.service")
	out := b.must(t, command...)
	start := startWith.FindStringSubmatch(out)
	if start == nil {
		t.Fatalf("it ends with\n%s", out)
	}
	b.inside(t, "sh", "-c", start[1])
}

// content lists the tags of the database and the objects of the bucket.
func (s *servers) content(t *testing.T) string {
	t.Helper()
	db, err := postgres.Beside(s.super, nil)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	var tags string
	must(t, db.QueryRowContext(t.Context(), `SELECT string_agg(r.name || ':' || t.name || ' ' || t.digest, chr(10) ORDER BY r.name, t.name)
		FROM tags t JOIN repositories r ON r.id = t.repository`).Scan(&tags))
	var objects strings.Builder
	must(t, filepath.WalkDir(s.bucket.Dir, func(path string, entry fs.DirEntry, err error) error {
		fmt.Fprintln(&objects, path)
		return err
	}))
	return tags + "\n" + objects.String()
}
