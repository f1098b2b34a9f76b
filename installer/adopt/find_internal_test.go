package adopt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unit is as mirror-registry 2.0.11 writes it.
const unit = `[Unit]
Description=Quay Container
[Service]
ExecStart=/usr/bin/podman run \
    --name quay-app \
    -v ROOT/quay-config:/quay-registry/conf/stack:Z \
    -v sqlite-storage:/sqlite:Z,U \
    -v ROOT/blobs:/datastorage:Z \
    --pod=quay-pod \
    registry.redhat.io/quay/quay-rhel8:v3.12.11
[Install]
WantedBy=multi-user.target default.target
`

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestFindQuay has the database in a volume of podman's, and the blobs in a directory.
func TestFindQuay(t *testing.T) {
	dir := t.TempDir()
	root, units := filepath.Join(dir, "quay"), filepath.Join(dir, "config/systemd/user")
	write(t, filepath.Join(dir, "podman"), "#!/bin/sh\n[ \"$2 $6\" = \"inspect sqlite-storage\" ] && echo /volumes/sqlite-storage/_data\n", 0o755)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	write(t, filepath.Join(root, "quay-config/config.yaml"), "SERVER_HOSTNAME: a.example.com\nDB_URI: sqlite:////sqlite/quay_sqlite.db\nSUPER_USERS: [boss]\n", 0o600)
	if _, err := FindQuay(t.Context(), units, ""); err == nil || !strings.Contains(err.Error(), "there is no mirror-registry") {
		t.Errorf("without a unit: %v", err)
	}
	write(t, filepath.Join(units, "quay-app.service.old"), strings.ReplaceAll(unit, "ROOT", root), 0o644)
	if err := os.Symlink("appliance.service", filepath.Join(units, "quay-app.service")); err != nil { // our alias
		t.Fatal(err)
	}
	q, err := FindQuay(t.Context(), units, ".old")
	if err != nil || q.Root != root || q.Storage != filepath.Join(root, "blobs") || q.Database != "/volumes/sqlite-storage/_data" ||
		q.Hostname != "a.example.com" || q.InitUser() != "boss" {
		t.Errorf("it is %+v, %v", q, err)
	}
	write(t, filepath.Join(root, "quay-config/config.yaml"), "DB_URI: postgresql://quay\n", 0o600)
	if _, err := FindQuay(t.Context(), units, ".old"); err == nil || !strings.Contains(err.Error(), "is a 1.x") {
		t.Errorf("of version 1: %v", err)
	}
}

// TestFindQuay_version3 refuses what is not built by name.
func TestFindQuay_version3(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "containers/systemd/quay.container"), "[Container]\n", 0o644)
	if _, err := FindQuay(t.Context(), filepath.Join(dir, "systemd/user"), ""); err == nil || !strings.Contains(err.Error(), "not built yet") {
		t.Errorf("by its unit: %v", err)
	}
	write(t, filepath.Join(dir, "quay.db"), "", 0o644)
	if !IsQuay(dir) {
		t.Error("its directory is not recognized")
	}
	if _, err := OpenQuay(dir); err == nil || !strings.Contains(err.Error(), "not built yet") {
		t.Errorf("by its directory: %v", err)
	}
}
