//go:build postgres

package registry_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/jackc/pgx/v5"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/backup"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// postgres is a server with a database as docs/database.md has it made.
type postgres struct {
	*postgrestest.Server
	super   string // the address of a superuser
	address string // for config.yaml
}

const hidden = "a-password-that-is-not-shown"

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	s, err := postgrestest.Start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop()) })
	p := &postgres{Server: s}
	_, p.super, err = s.Database(t.Context(), "")
	must(t, err)
	p.exec(t, `CREATE ROLE login LOGIN PASSWORD '`+hidden+`'`)
	p.exec(t, `CREATE DATABASE appliance OWNER login TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`)
	file := filepath.Join(t.TempDir(), "pgpass")
	must(t, os.WriteFile(file, []byte("*:*:appliance:login:"+hidden+"\n"), 0o600))
	p.address = strings.NewReplacer("appliance@/test1", "login@/appliance").Replace(p.super) + "&passfile=" + file
	return p
}

func (p *postgres) exec(t *testing.T, text string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.super)
	must(t, err)
	defer c.Close(context.WithoutCancel(t.Context()))
	_, err = c.Exec(t.Context(), text)
	must(t, err)
}

// on has a daemon keep its rows in the database.
func (p *postgres) on(t *testing.T) func(*config.Config) {
	return func(cfg *config.Config) {
		t.Helper()
		cfg.GC.GracePeriod = time.Minute // the least that a file may have
		text, err := cfg.Marshal()
		must(t, err)
		parsed, err := config.Parse("config.yaml", bytes.Replace(text, []byte("\ndatabase: "+cfg.Database), []byte("\ndatabase: "+p.address), 1))
		must(t, err)
		must(t, os.Remove(filepath.Dir(cfg.Database))) // which is not used
		*cfg = *parsed
	}
}

// await asks until the database is there again.
func (r *running) await(t *testing.T, path string) {
	t.Helper()
	for status := 0; status != http.StatusOK; {
		if status, _ = r.as(t, "pull", http.MethodGet, path); status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Fatalf("%s is answered %d", path, status)
		}
	}
}

// unavailable asserts that a request is to be made again.
func (r *running) unavailable(t *testing.T, user, path string) {
	t.Helper()
	if a := r.ask(t, user, path, "", ""); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(a.text, "login") && user == "pull" {
		t.Errorf("%s asks for %s: %d %v %s", user, path, a.status, a.header, a.text)
	}
}

func TestPostgres_daemon(t *testing.T) {
	p := startPostgres(t)
	r := start(t, p.on(t))
	img := r.image(t, "app:v1")
	const path = "/v2/app/manifests/v1"
	r.await(t, path)

	must(t, p.Halt())
	r.unavailable(t, "pull", "/v2/app/manifests/unknown")
	r.unavailable(t, "unknown", "/v2/")
	r.unavailable(t, "unknown", "/api/v1/status")
	if status, body := r.get(t, "/health/instance"); status != http.StatusServiceUnavailable || !strings.Contains(body, `"database":false`) {
		t.Errorf("health is %d %s", status, body)
	}
	if status, err := r.admin.Status(t.Context()); err != nil || len(status.Trouble) == 0 {
		t.Errorf("status: %+v, %v", status, err)
	}
	must(t, p.Begin(t.Context()))
	r.await(t, path)
	second := r.image(t, "app:v2")

	p.exec(t, `ALTER ROLE login CONNECTION LIMIT 0`)
	p.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'login'`)
	r.unavailable(t, "pull", "/v2/app/tags/list")
	p.exec(t, `ALTER ROLE login CONNECTION LIMIT -1`)
	r.await(t, path)
	third := r.image(t, "app:v3")

	r = r.restart(t)
	for name, pushed := range map[string]v1.Image{"v1": img, "v2": second, "v3": third} {
		pulled, err := remote.Image(tag(t, "app:"+name), r.remote(t, "pull", password)...)
		must(t, err)
		must(t, validate.Image(pulled))
		if digestOf(t, pulled) != digestOf(t, pushed) {
			t.Errorf("%s is another image", name)
		}
	}
	if text := r.log.String() + r.access.String(); strings.Contains(text, hidden) {
		t.Errorf("the log has the password: %s", text)
	}
}

func TestPostgres_onlyOneDaemon(t *testing.T) {
	p := startPostgres(t)
	r := start(t, p.on(t))
	other, _ := configure(t)
	p.on(t)(other)
	var locked *store.LockedError
	if err := registry.Run(t.Context(), other, registry.Options{}); !errors.As(err, &locked) || !strings.Contains(hint.Of(err), "needs all others stopped") {
		t.Errorf("a second daemon ends with %v, %q", err, hint.Of(err))
	}
	r.await(t, "/v2/_catalog")
}

// Commands without a daemon: those of what exists refuse an empty database, and others make it.
func TestPostgres_offline(t *testing.T) {
	p := startPostgres(t)
	cfg, _ := configure(t)
	p.on(t)(cfg)
	must(t, registry.CheckDatabase(cfg))
	if _, err := registry.Offline(t.Context(), cfg, registry.Options{Existing: true}); err == nil || !strings.Contains(err.Error(), "is empty") || hint.Of(err) == "" {
		t.Errorf("an empty database: %v", err)
	}
	stop, err := registry.Offline(t.Context(), cfg, registry.Options{})
	must(t, err)
	control := client.NewUnix(cfg.ControlSocket)
	_, err = control.CreateUser(t.Context(), api.NewUser{Name: "admin", Role: "admin", Password: password})
	must(t, err)
	control.Close()
	must(t, stop())
	stop, err = registry.Offline(t.Context(), cfg, registry.Options{Existing: true})
	must(t, err)
	control = client.NewUnix(cfg.ControlSocket)
	if users, err := control.Users(t.Context()); err != nil || len(users) != 1 {
		t.Errorf("users: %v, %v", users, err)
	}
	if found, err := control.Verify(t.Context(), api.VerifyRequest{}, nil); err != nil || len(found.Problems) > 0 {
		t.Errorf("verify: %+v, %v", found, err)
	}
	if _, err := control.GC(t.Context(), api.GCRequest{}, nil); err != nil {
		t.Errorf("gc: %v", err)
	}
	control.Close()
	must(t, stop())

	_, err = registry.Backup(t.Context(), nil, cfg, 0, t.TempDir(), backup.Options{})
	_, restored := registry.Restore(t.Context(), cfg, t.TempDir(), backup.RestoreOptions{})
	for _, err := range []error{err, restored} {
		if err == nil || !strings.Contains(hint.Of(err), "pg_dump") {
			t.Errorf("got %v, %q", err, hint.Of(err))
		}
	}
}
