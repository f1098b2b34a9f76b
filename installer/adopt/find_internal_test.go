package adopt

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
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
	if err != nil || q.Root != root || q.Storage != filepath.Join(root, "blobs") || q.Database != "/volumes/sqlite-storage/_data/quay_sqlite.db" ||
		q.Hostname != "a.example.com" || !slices.Equal(q.supers, []string{"boss"}) {
		t.Errorf("it is %+v, %v", q, err)
	}
	write(t, filepath.Join(root, "quay-config/config.yaml"), "DB_URI: postgresql://quay\n", 0o600)
	if _, err := FindQuay(t.Context(), units, ".old"); err == nil || !strings.Contains(err.Error(), "is a 1.x") {
		t.Errorf("of version 1: %v", err)
	}
}

// quadlet3 is as the real program writes it.
const quadlet3 = `[Unit]
Description=Quay OCI Registry
After=network-online.target

[Container]
Image=quay.io/quay/quay-mirror:latest
Volume=ROOT:/data:Z
PublishPort=9443:8443
Exec=serve --data-dir /data --hostname registry.example.com:9443

[Install]
WantedBy=default.target
`

// TestFindQuay_version3 has its file beside the directories of units, of the system and of a user.
func TestFindQuay_version3(t *testing.T) {
	if got := QuadletFile("/etc/systemd/system"); got != "/etc/containers/systemd/quay.container" {
		t.Errorf("that of the system is %s", got)
	}
	dir := t.TempDir()
	root, units := filepath.Join(dir, "quay"), filepath.Join(dir, ".config/systemd/user")
	file := QuadletFile(units)
	if want := filepath.Join(dir, ".config/containers/systemd/quay.container"); file != want {
		t.Errorf("that of a user is %s, want %s", file, want)
	}
	write(t, filepath.Join(root, "config.yaml"), "SERVER_HOSTNAME: other.example.com:443\nDB_URI: sqlite:////data/db/quay.db\nSUPER_USERS: [boss]\n"+
		"DISTRIBUTED_STORAGE_CONFIG:\n  default:\n    - LocalStorage\n    - storage_path: /data/blobs\n", 0o600)
	text := strings.ReplaceAll(quadlet3, "ROOT", root)
	configured := strings.Replace(text, "--data-dir /data", "--config /data/config.yaml", 1)
	for name, c := range map[string]struct {
		file, text string
		want       QuayInstall
	}{
		"by flags": {file, text, QuayInstall{Version3: true, Root: root, Storage: root + "/storage", Database: root + "/quay.db",
			Hostname: "registry.example.com:9443", first: true}},
		"by a configuration": {file, configured, QuayInstall{Version3: true, Root: root, Storage: root + "/blobs", Database: root + "/db/quay.db",
			Hostname: "other.example.com:9443", supers: []string{"boss"}}},
		"retired": {file + ".old", text, QuayInstall{Version3: true, Root: root, Storage: root + "/storage", Database: root + "/quay.db",
			Hostname: "registry.example.com:9443", first: true}},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, c.file, c.text, 0o600)
			defer os.Remove(c.file)
			if q, err := FindQuay(t.Context(), units, ".old"); err != nil || !reflect.DeepEqual(q, c.want) {
				t.Errorf("it is %+v, %v", q, err)
			}
		})
	}
	for name, text := range map[string]string{
		"of another Quay":      "[Container]\nImage=quay.io/projectquay/quay\nVolume=/srv:/datastorage\n",
		"that leads elsewhere": strings.Replace(configured, "/data/config.yaml", "/etc/quay/config.yaml", 1),
	} {
		write(t, file, text, 0o600)
		if q, err := FindQuay(t.Context(), units, ".old"); err == nil {
			t.Errorf("one %s is %+v", name, q)
		}
	}
	write(t, filepath.Join(root, "quay.db"), "", 0o644)
	if q, err := OpenQuay(root); err != nil || !IsQuay(root) || q.Storage != root+"/blobs" {
		t.Errorf("by its directory it is %+v, %v", q, err)
	}
}

// TestUnreadable names the commands for a registry of a rootless podman.
func TestUnreadable(t *testing.T) {
	root := t.TempDir()
	err := QuayInstall{Root: root}.unreadable(fmt.Errorf("open: %w", fs.ErrPermission))
	if got := hint.Of(err); !strings.Contains(got, "sudo appliance adopt "+root) {
		t.Errorf("it hints %q", got)
	}
	for root, cause := range map[string]error{root: fs.ErrNotExist, filepath.Join(root, "of another user"): fs.ErrPermission} {
		if err := (QuayInstall{Root: root}).unreadable(cause); hint.Of(err) != "" {
			t.Errorf("of %s, %v, it hints %q", root, cause, hint.Of(err))
		}
	}
}
