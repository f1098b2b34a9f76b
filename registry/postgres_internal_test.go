//go:build postgres

package registry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// systemd's watchdog does not restart a daemon whose database does not answer: pulls that are under way
// go on, and requests work when it answers.
func TestPostgres_aServerThatIsDownIsNoReasonForARestart(t *testing.T) {
	server, err := postgrestest.Start(t.Context())
	must(t, err)
	defer func() { must(t, server.Stop()) }()
	_, address, err := server.Database(t.Context(), "")
	must(t, err)
	file := openDaemon(t, io.Discard)
	text, err := file.cfg.Marshal()
	must(t, err)
	cfg, err := config.Parse("config.yaml", bytes.Replace(text, []byte("\ndatabase: "+file.cfg.Database), []byte("\ndatabase: "+address), 1))
	must(t, err)
	must(t, file.close())
	d, err := open(context.Background(), cfg, Options{Log: slog.New(slog.DiscardHandler), Config: func() (*config.Config, error) { return file.cfg, nil }})
	must(t, err)
	defer func() { _ = d.close() }() // whose last writes find no server
	if changed := d.pendingConfig(); changed != "database" {
		t.Errorf("what waits for a restart is %q", changed)
	}
	must(t, server.Halt())
	if err := d.checkDatabase(t.Context()); err == nil {
		t.Error("a database that is down is healthy")
	}
	for _, c := range d.health.checks {
		if err := c.run(t.Context()); c.vital && c.service != "web_gunicorn" && err != nil {
			t.Errorf("%s would restart the daemon: %v", c.service, err)
		}
	}
}
