//go:build postgres

package registry_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// waits returns the status of a daemon once it tells what its start waits for, with a reason.
func (r *running) waits(t *testing.T) api.Status {
	t.Helper()
	for {
		status, err := r.admin.Status(t.Context())
		if err == nil && status.Waiting == nil {
			t.Fatalf("it does not wait: %+v", status)
		}
		if err == nil && status.Waiting.Reason != "" {
			return status
		}
		must(t, retry.Sleep(t.Context(), 10*time.Millisecond))
	}
}

// A daemon whose start waits for the database tells so on its socket and to systemd, and goes on when the server is there.
func TestPostgres_startWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	defer told.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	p := startPostgres(t)
	cfg, roots := configure(t)
	p.on(t)(cfg)
	must(t, p.Halt())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	began := time.Now()
	r := beginOn(t, cfg, roots, l)

	status := r.waits(t)
	w := status.Waiting
	if w.For != api.WaitingDatabase || !strings.HasPrefix(w.Name, "postgres://login@/") || w.Since.Before(began) || w.Since.After(time.Now()) ||
		!strings.Contains(w.Reason, "no such file or directory") || !strings.Contains(w.Hint, "pg_isready") {
		t.Errorf("it waits for %+v", w)
	}
	if up, known := status.Services["database"]; status.Healthy || up || !known || status.Failing["database"].Problem != w.Reason ||
		len(status.Trouble) != 1 || status.Version != "v0-test" || status.Address != host || status.Started.IsZero() {
		t.Errorf("the status is %+v", status)
	}
	text, err := json.Marshal(status)
	must(t, err)
	if strings.Contains(string(text), hidden) || !strings.Contains(string(text), `"space":[]`) {
		t.Errorf("the status is %s", text)
	}
	var found []finding.Finding
	status.Examine(time.Now(), func(f finding.Finding) { found = append(found, f) })
	if len(found) != 1 || found[0].Level != finding.Failed || found[0].Check != "database" || found[0].Subject != w.Name || found[0].Hint != w.Hint {
		t.Errorf("found are %+v", found)
	}

	// Commands do not take the daemon for one that does not run.
	must(t, r.admin.Ping(t.Context(), cfg.DatabaseName()))
	if err := r.admin.Ping(t.Context(), "another"); err == nil || errors.Is(err, client.ErrNotRunning) {
		t.Errorf("a command with another database gets %v", err)
	}
	_, err = r.admin.GC(t.Context(), api.GCRequest{}, nil)
	var refused *client.Refused
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || !strings.Contains(err.Error(), w.Name) || hint.Of(err) != w.Hint {
		t.Errorf("a collection ends with %v, %q", err, hint.Of(err))
	}
	// Nor does a second one take its socket.
	another, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	other := beginOn(t, cfg, roots, another)
	for !strings.Contains(other.log.String(), "another daemon answers on") {
		must(t, retry.Sleep(t.Context(), 10*time.Millisecond))
	}
	if now := r.waits(t); !now.Started.Equal(status.Started) {
		t.Error("the socket is that of the second daemon")
	}
	other.end(t)

	must(t, p.Begin(t.Context()))
	if status, body := r.get(t, "/health/instance"); status != http.StatusOK {
		t.Errorf("health is %d %s", status, body)
	}
	if status, err := r.admin.Status(t.Context()); err != nil || status.Waiting != nil || !status.Healthy {
		t.Errorf("afterwards the status is %+v, %v", status, err)
	}
	var states []string
	for buf := make([]byte, 4096); len(states) == 0 || states[len(states)-1] != "READY=1"; {
		n, err := told.Read(buf)
		must(t, err)
		states = append(states, string(buf[:n]))
	}
	if len(states) < 3 || !strings.HasPrefix(states[0], "STATUS=waiting for the database "+w.Name+": ") || states[len(states)-2] != "STATUS=" {
		t.Errorf("systemd is told %q", states)
	}
}

// While no daemon runs, each server that one needs is looked at by itself.
func TestPostgres_lookAtServers(t *testing.T) {
	p := startPostgres(t)
	cfg, _ := configure(t)
	p.on(t)(cfg)
	look := func() (all []finding.Finding) {
		registry.LookAtServers(t.Context(), cfg, func(f finding.Finding) { all = append(all, f) })
		return all
	}
	if all := look(); len(all) != 1 || all[0].Level != finding.Warning || !strings.Contains(all[0].Text, "makes them when its start is complete") {
		t.Errorf("of an empty database: %+v", all)
	}
	stop, err := registry.Offline(t.Context(), cfg, registry.Options{})
	must(t, err)
	must(t, stop())
	if all := look(); len(all) != 1 || all[0].Level != finding.OK || all[0].Subject != cfg.DatabaseName() {
		t.Errorf("of a database that is well: %+v", all)
	}
	p.exec(t, `ALTER ROLE login PASSWORD 'another'`)
	if all := look(); len(all) != 1 || all[0].Level != finding.Failed || !strings.Contains(all[0].Text, "password authentication failed") || !strings.Contains(all[0].Hint, "passfile=") {
		t.Errorf("of a wrong password: %+v", all)
	}
	must(t, p.Halt())
	if all := look(); len(all) != 1 || all[0].Level != finding.Failed || !strings.Contains(all[0].Text, "no such file") || !strings.Contains(all[0].Hint, "pg_isready") {
		t.Errorf("of a server that is down: %+v", all)
	}
}
