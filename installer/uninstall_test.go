package installer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/systemd"
)

func TestUninstall_LeavesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		b.install()
		if result := b.uninstall(true); !result.Changed {
			t.Error("nothing was changed")
		}
		same(t, "after the uninstall", b.snapshot(), before)
		_, err := PlanUninstall(t.Context(), Request{User: b.user}, b.deps)
		if !isNotInstalled(err) {
			t.Errorf("a second uninstall: %v", err)
		}
	})
}

func TestUninstall_LeavesWhatWasThereBefore(t *testing.T) {
	b := newBox(t, true)
	b.sm.lingering = true
	b.write("home/alice/.local/bin/mine", "")
	for _, dir := range []string{"home/alice/quay-install/quay-config", "home/alice/.config/systemd", "srv/blobs"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := b.snapshot()
	r := b.request()
	r.QuayStorage = "/srv/blobs"
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

// userdel deletes the group of the user's name, which may be older than the user.
func TestUninstall_groupBefore(t *testing.T) {
	b := newBox(t, false)
	const group = "appliance:x:970:\n"
	b.write("etc/group", group)
	b.ran = func(name string, args ...string) {
		switch {
		case name == "userdel":
			b.write("etc/group", "")
		case name == "groupadd" && slices.Contains(args, "970"):
			b.write("etc/group", group)
		}
	}
	before := b.snapshot()
	b.install()
	b.install()
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

func TestUninstall_NamesEachPathOnce(t *testing.T) {
	b := newBox(t, false)
	if err := os.MkdirAll(b.path("root/quay-install/quay-config"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.install()
	p, err := PlanUninstall(t.Context(), Request{RemoveContent: true}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(p.Describe(), "\n") + "\n"
	if n := strings.Count(text, "quay-config\n") + strings.Count(text, "quay-config "); n != 1 {
		t.Errorf("quay-config has %d lines:\n%s", n, text)
	}
}

// An earlier version found directories that were given to the service to be the service's before.
func TestUninstall_RecordThatNamesTheServiceAsTheOwnerBefore(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.write("etc/passwd", strings.Replace(b.read("etc/passwd"), fmt.Sprintf("appliance:x:%d:%d", os.Getuid(), os.Getgid()), "appliance:x:4711:4711", 1))
	path := "root/quay-install/quay-config/install.json"
	b.write(path, strings.Replace(b.read(path), `"steps": [`, `"steps": [{"step": "directory", "values": {"path": "/srv/blobs"},
		"before": {"is": "directory", "mode": 493, "owner": {"uid": 4711, "gid": 4711}}},`, 1))
	s, err := newSite(Request{QuayRoot: "/root/quay-install"}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.readRecord()
	if err != nil || r.entries[0].Before.Owner.UID != os.Getuid() || r.entries[0].Before.Mode != 0o755 {
		t.Errorf("an uninstall brings back %+v, %v", r.entries[0].Before, err)
	}
}

func TestUninstall_KeepsContentWithoutConsent(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		b.install()
		b.uninstall(false)
		root := filepath.Join(b.deps.Home, "quay-install")
		if b.read(root+"/quay-storage/sha256/ab/abcd") != "blob" || b.read(root+"/sqlite-storage/appliance.db") != "rows" {
			t.Error("the content is gone")
		}
		if !exists(b.path(root + "/quay-rootCA/rootCA-key.pem")) {
			t.Error("the CA is gone, which clusters trust that use the content")
		}
		if !b.user && !strings.Contains(b.read("etc/passwd"), serviceUser) {
			t.Error("the user that owns the content is gone")
		}
		if result := b.install(); result.Seeded || result.InitPassword != "" {
			t.Errorf("an install over kept content: %+v", result)
		}
		b.uninstall(false)
		b.uninstall(true)
		same(t, "after the last uninstall", b.snapshot(), before)
	})
}

func TestUninstall_KilledAfterEachStep(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for n := 0; ; n++ {
			b.install()
			p, err := PlanUninstall(t.Context(), Request{User: b.user, RemoveContent: true}, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			if n > len(p.steps) { // one more than there are
				return
			}
			steps := len(p.steps)
			b.kill(p, n)
			_, err = PlanUninstall(t.Context(), Request{User: b.user}, b.deps)
			if !isNotInstalled(err) {
				b.uninstall(true)
			}
			after := b.snapshot()
			if n == steps-1 {
				// Only the empty install directory was left, and nothing tells any
				// more whose it is.
				root := filepath.Join(b.deps.Home, "quay-install")
				delete(after, root)
				if err := os.Remove(b.path(root)); err != nil {
					t.Fatal(err)
				}
			}
			same(t, fmt.Sprintf("killed after %d steps, then completed", n), after, before)
		}
	})
}

// recordVersion1 writes the record of an install as earlier versions wrote it, the
// earliest without some keys.
func (b *box) recordVersion1(without ...string) {
	b.t.Helper()
	root := filepath.Join(b.deps.Home, "quay-install")
	s, err := newSite(Request{User: b.user, QuayRoot: root}, b.deps)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := s.readRecord()
	if err != nil {
		b.t.Fatal(err)
	}
	var dirs, files []string
	for _, e := range r.entries {
		switch step := e.Step.(type) {
		case *host.Dir:
			dirs = append(dirs, step.Path)
		case *host.File:
			if within(step.Path, root) && filepath.Base(step.Path) != "config.yaml" {
				files = append(files, step.Path)
			}
		}
	}
	old := map[string]any{
		"version": 1, "createdDirectories": dirs, "createdUser": !b.user, "enabledLingering": b.user, "binary": s.binary,
		"storage": r.Storage, "database": r.Database, "databaseFile": r.File, "owner": r.Owner, "createdFiles": files,
	}
	for _, key := range without {
		delete(old, key)
	}
	text, err := json.Marshal(old)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(recordPath(root)), text, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// A record of version 1 is read, and written anew by the next install.
func TestUninstall_OfAnEarlierRecord(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		for _, again := range []bool{false, true} {
			b.install()
			b.recordVersion1()
			if again && b.install().Changed {
				t.Error("the next install changed something")
			}
			if record := b.read(recordPath(filepath.Join(b.deps.Home, "quay-install"))); strings.Contains(record, `"version": 2`) != again {
				t.Errorf("the record: %s", record)
			}
			b.uninstall(true)
			same(t, fmt.Sprintf("after the uninstall, with another install before %v", again), b.snapshot(), before)
		}
	})
}

// An uninstall takes back what a killed install has done.
func TestUninstall_OfAKilledInstall(t *testing.T) {
	b := newBox(t, false)
	before := b.snapshot()
	for n := 4; n < len(b.plan(b.request()).steps); n++ { // from the first step that the journal has
		b.kill(b.plan(b.request()), n)
		b.uninstall(true)
		after := b.snapshot()
		if delete(after, "/root/quay-install"); n == 4 {
			if err := os.RemoveAll(b.path("root/quay-install")); err != nil {
				t.Fatal(err)
			}
		}
		same(t, fmt.Sprintf("killed at step %d, uninstalled", n), after, before)
	}
}

// Certificates that were put there for an install which then did not happen are the user's.
func TestUninstall_LeavesFilesWhereNothingIsInstalled(t *testing.T) {
	for _, remove := range []bool{false, true} {
		b := newBox(t, false)
		b.write("root/quay-install/quay-config/ssl.cert", "cert")
		b.write("root/quay-install/quay-config/upstream-auth.json", "{}")
		b.write("root/quay-install/quay-rootCA/mine.pem", "pem")
		if _, err := PlanUninstall(t.Context(), Request{RemoveContent: remove}, b.deps); !isNotInstalled(err) {
			t.Errorf("content goes %v: %v", remove, err)
		}
	}
}

// An empty quay-config may be left of an uninstall, and does not make the rest an install's.
func TestUninstall_LeavesFilesBesideAnEmptyDirectory(t *testing.T) {
	b := newBox(t, false)
	b.write("root/quay-install/quay-rootCA/mine.pem", "pem")
	if err := os.Mkdir(b.path("root/quay-install/quay-config"), 0o750); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	if !exists(b.path("root/quay-install/quay-rootCA/mine.pem")) {
		t.Error("the user's certificate is gone")
	}
}

func TestUninstall_RefusesWhatIsNotOurs(t *testing.T) {
	b := newBox(t, false)
	b.write("root/quay-install/quay-config/config.yaml", "SERVER_HOSTNAME: quay\nDB_URI: sqlite:////sqlite/quay_sqlite.db\n")
	if _, err := PlanUninstall(t.Context(), Request{}, b.deps); !isNotInstalled(err) {
		t.Errorf("a mirror-registry: %v", err)
	}
	b = newBox(t, false)
	b.write("etc/systemd/system/appliance.service", "[Service]\nExecStart=/usr/bin/toaster\n")
	if _, err := PlanUninstall(t.Context(), Request{}, b.deps); err == nil || !strings.Contains(err.Error(), "was not written by this installer") {
		t.Errorf("another appliance.service: %v", err)
	}
	b = newBox(t, false)
	b.install()
	if _, err := PlanUninstall(t.Context(), Request{QuayRoot: "/opt/other"}, b.deps); !errors.As(err, new(*PreflightError)) {
		t.Errorf("another directory than the installed one: %v", err)
	}
	b.deps.Geteuid = func() int { return 1000 }
	if _, err := PlanUninstall(t.Context(), Request{}, b.deps); !errors.As(err, new(*PreflightError)) {
		t.Errorf("without rights: %v", err)
	}
}

func TestUninstall_KeepsTheProgramThatWasThere(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/local/bin/appliance", "#!/bin/sh\n")
	b.chmod("usr/local/bin/appliance", 0o755)
	before := b.snapshot()
	r := b.request()
	r.Binary = b.path("usr/local/bin/appliance")
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

// prepareAndUninstall prepares /srv/quay and removes it again, content and all.
func prepareAndUninstall(t *testing.T, b *box) {
	t.Helper()
	p, err := PlanPrepare(t.Context(), Request{Hostname: "localhost", QuayRoot: "/srv/quay"}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	p, err = PlanUninstall(t.Context(), Request{QuayRoot: "/srv/quay", RemoveContent: true}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// A directory that was only prepared has no record and no unit: the program and the user
// are not the install's.
func TestUninstall_PreparedDirectory(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/local/bin/appliance", "#!/bin/sh\n")
	b.write("etc/passwd", b.passwd("appliance:x:4242:4242::/:/sbin/nologin\n"))
	before := b.snapshot()
	prepareAndUninstall(t, b)
	after := b.snapshot()
	delete(after, "/srv") // whose it was nothing tells any more
	same(t, "after the uninstall", after, before)
}

// The record lies in a directory of the service's: what it names is not removed because it says so.
func TestUninstall_RecordNamesAnotherProgram(t *testing.T) {
	b := newBox(t, false)
	b.install()
	path := recordPath("/root/quay-install")
	b.write(path, strings.Replace(b.read(path), "/usr/local/bin/appliance", "/usr/local/bin/other", 1))
	b.uninstall(true)
	if !exists(b.path("usr/local/bin/other")) {
		t.Error("a program that is not ours was removed")
	}
	if exists(b.path("usr/local/bin/appliance")) {
		t.Error("our program is still there")
	}
}

func TestUninstall_RenamedDatabase(t *testing.T) {
	b := newBox(t, false)
	before := b.snapshot()
	b.install()
	b.edit("appliance.db", "mirror.sqlite")
	if err := os.Rename(b.path("root/quay-install/sqlite-storage/appliance.db"), b.path("root/quay-install/sqlite-storage/mirror.sqlite")); err != nil {
		t.Fatal(err)
	}
	b.install()
	b.uninstall(true)
	same(t, "after the uninstall", b.snapshot(), before)
}

// Another storage names another installation, with or without its config.yaml.
func TestUninstall_OtherDirectories(t *testing.T) {
	for _, kept := range []bool{false, true} {
		b := newBox(t, false)
		r := b.request()
		r.QuayStorage = "/srv/blobs"
		if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if kept {
			b.uninstall(false)
		}
		for _, wrong := range []Request{{QuayStorage: "/srv/other"}, {SqliteStorage: "/srv/other"}} {
			wrong.RemoveContent = true
			if _, err := PlanUninstall(t.Context(), wrong, b.deps); !errors.As(err, new(*PreflightError)) || !strings.Contains(err.Error(), "/srv/other") {
				t.Errorf("content kept %v: %v", kept, err)
			}
		}
		if _, err := PlanUninstall(t.Context(), Request{QuayStorage: "/srv/blobs", RemoveContent: true}, b.deps); err != nil {
			t.Errorf("content kept %v, the right directory: %v", kept, err)
		}
	}
}

// What runs under the name of our units beside a directory that was only prepared is another's.
func TestUninstall_PreparedDirectoryLeavesUnits(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/lib/systemd/system/appliance.service", "[Service]\nExecStart=/usr/bin/other\n")
	b.write("etc/systemd/system/appliance.socket", "[Socket]\nListenStream=1\n")
	b.sm.active[systemd.Service], b.sm.active[systemd.Socket] = true, true
	before := b.snapshot()
	prepareAndUninstall(t, b)
	after := b.snapshot()
	delete(after, "/srv")
	same(t, "after the uninstall", after, before)
}

// An appliance that is installed elsewhere on the host stays, unit by unit, when a
// prepared directory is to go.
func TestUninstall_PreparedDirectoryBesideAnInstall(t *testing.T) {
	b := newBox(t, false)
	b.install()
	p, err := PlanPrepare(t.Context(), Request{Hostname: "localhost", QuayRoot: "/srv/quay"}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := b.snapshot()
	_, err = PlanUninstall(t.Context(), Request{QuayRoot: "/srv/quay", RemoveContent: true}, b.deps)
	if err == nil || !strings.Contains(err.Error(), "an appliance is installed already, in /root/quay-install") {
		t.Errorf("error is %v", err)
	}
	same(t, "after the refusal", b.snapshot(), before)
}
