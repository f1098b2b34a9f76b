package main_test

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestCorrupt_whileServing damages a page of the database under a daemon that serves. Only requests
// that need the page fail; that one did is remembered, told, and no reason to end.
func TestCorrupt_whileServing(t *testing.T) {
	f, images := filled(t)
	f.start(t)
	status := func(m *testImage) int {
		t.Helper()
		a, err := f.ask(t.Context(), http.MethodGet, m.path()+m.digest.String(), nil)
		must(t, err)
		return a.status
	}
	database, err := os.OpenFile(f.cfg.Database, os.O_RDWR, 0)
	must(t, err)
	defer database.Close()
	content, err := os.ReadFile(f.cfg.Database)
	must(t, err)
	const page = 4096
	at := bytes.Index(content, images[0].body) / page * page
	if at <= 0 {
		t.Fatalf("the manifest is at %d", at)
	}
	_, err = database.WriteAt(bytes.Repeat([]byte{0xff}, page), int64(at))
	must(t, err)

	if a, err := f.ask(t.Context(), http.MethodGet, "/health/instance", nil); err != nil || a.status != http.StatusOK {
		t.Errorf("before anyone has noticed, health is %d %s, %v", a.status, a.body, err)
	}
	if code := status(images[0]); code != http.StatusInternalServerError {
		t.Errorf("the damaged manifest is answered %d", code)
	}
	well := 0
	for _, m := range images {
		if !bytes.Contains(content[at:at+page], m.body) && status(m) == http.StatusOK {
			well++
		}
	}
	if well < len(images)/2 {
		t.Errorf("only %d other manifests can be pulled", well)
	}
	a, err := f.ask(t.Context(), http.MethodGet, "/health/instance", nil)
	must(t, err)
	if a.status != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte(`"database":false`)) || bytes.Count(a.body, []byte("false")) != 1 {
		t.Errorf("health is %d %s", a.status, a.body)
	}
	if a, err = f.ask(t.Context(), http.MethodGet, "/metrics", nil); err != nil || !bytes.Contains(a.body, []byte("\nappliance_database_damaged 1\n")) {
		t.Errorf("the metrics do not have it (%v)", err)
	}
	if out, err := f.command("status").CombinedOutput(); err != nil || !strings.Contains(string(out), "no: database") || !strings.Contains(string(out), "appliance verify") {
		t.Errorf("status says %v\n%s", err, out)
	}
	if out, err := f.command("verify").CombinedOutput(); err == nil || !strings.Contains(string(out), "malformed") || !strings.Contains(string(out), "appliance restore") {
		t.Errorf("verify says %v\n%s", err, out)
	}
	if said := f.said.String(); strings.Count(said, `level=ERROR msg="the database is damaged"`) != 1 || !strings.Contains(said, "appliance verify") {
		t.Errorf("the log has\n%s", said)
	}
	f.stop(t)
}
