package installer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// link is relative, so that it leads to the same place from outside the box.
func (b *box) link(target, at string) {
	b.t.Helper()
	b.write(filepath.Join(filepath.Dir(at), ".keep"), "")
	target, err := filepath.Rel(filepath.Dir("/"+at), "/"+strings.TrimPrefix(target, "/"))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.Symlink(target, b.path(at)); err != nil {
		b.t.Fatal(err)
	}
}

// What a link leads to is bound back into the sandbox, wherever the link itself lies.
func TestInstall_LinksIntoHomes(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(b *box, r *Request)
		want    []string
	}{
		"quayRoot": {func(b *box, r *Request) {
			b.write("home/y/data/.keep", "")
			b.link("/home/y/data", "srv/x")
			r.QuayRoot = "/srv/x/quay"
		}, []string{`BindPaths="/home/y/data/quay"`, `ReadWritePaths="/srv/x/quay" "/home/y/data/quay"`}},
		"a parent's parent": {func(b *box, r *Request) {
			b.write("home/y/data/.keep", "")
			b.link("home/y", "data")
			r.QuayRoot = "/data/data/quay"
		}, []string{`BindPaths="/home/y/data/quay"`}},
		"storage beside": {func(b *box, r *Request) {
			b.write("home/y/.keep", "")
			b.link("/home/y", "srv/x")
			r.QuayStorage, r.SqliteStorage = "/srv/x/blobs", "/srv/x/db"
		}, []string{`BindPaths="/home/y/blobs"`, `BindPaths="/home/y/db"`, `BindPaths="/root/quay-install"`}},
		"storage within quayRoot": {func(b *box, r *Request) {
			b.write("home/y/blobs/.keep", "")
			if err := os.Remove(b.path("home/y/blobs/.keep")); err != nil {
				b.t.Fatal(err)
			}
			b.write("opt/quay/.keep", "")
			b.link("/home/y/blobs", "opt/quay/quay-storage")
			r.QuayRoot = "/opt/quay"
		}, []string{`BindPaths="/home/y/blobs"`}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, false)
			r := b.request()
			c.prepare(b, &r)
			if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			unit := b.read("etc/systemd/system/appliance.service")
			for _, want := range append(c.want, "TemporaryFileSystem=/home:ro") {
				if !strings.Contains(unit, want) {
					t.Errorf("the unit lacks %s:\n%s", want, unit)
				}
			}
			if result, err := b.plan(r).Apply(t.Context(), nil); err != nil || result.Changed {
				t.Errorf("the second time: %+v, %v", result, err)
			}
		})
	}
}

func TestPreflight_Links(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(b *box, r *Request)
		what    string
	}{
		"into the system": {func(b *box, r *Request) {
			b.write("etc/quay/.keep", "")
			b.link("/etc/quay", "srv/x")
			r.QuayRoot = "/srv/x"
		}, "/srv/x (by a link: /etc/quay) cannot be used"},
		"to a home": {func(b *box, r *Request) { b.link("/home/alice", "srv/x"); r.QuayStorage = "/srv/x" }, "(by a link: /home/alice) cannot be used"},
		"into /tmp": {func(b *box, r *Request) {
			b.write("tmp/q/.keep", "")
			b.link("/tmp/q", "srv/x")
			r.QuayRoot = "/srv/x"
		}, "(by a link: /tmp/q) lies in /tmp"},
		"of both to one": {func(b *box, r *Request) {
			b.write("data/.keep", "")
			b.link("/data", "srv/x")
			r.QuayStorage, r.SqliteStorage = "/srv/x/q", "/data/q"
		}, "lie in each other"},
		"through a closed directory": {func(b *box, r *Request) {
			b.write("mnt/closed/q/.keep", "")
			b.chmod("mnt/closed", 0o700)
			b.link("/mnt/closed/q", "srv/x")
			b.write("etc/passwd", b.passwd("appliance:x:4242:4242::/:/sbin/nologin\n"))
			r.QuayRoot = "/srv/x/quay"
		}, "may not pass through /mnt/closed"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, false)
			r := b.request()
			c.prepare(b, &r)
			_, err := PlanInstall(t.Context(), r, b.deps)
			var failure *PreflightError
			if !errors.As(err, &failure) || !strings.Contains(err.Error(), c.what) {
				t.Errorf("PlanInstall: %v, want %q", err, c.what)
			}
		})
	}
}

func TestMountPoint(t *testing.T) {
	b := newBox(t, false)
	b.write("home/alice/bin/.keep", "")
	b.link("/home/alice", "srv/a")
	b.write("proc/self/mountinfo", "22 21 8:2 / /home rw,noexec - ext4 /dev/b rw\n21 1 8:1 / / rw - ext4 /dev/a rw\n23 21 8:3 / /srv/with\\040blank rw - ext4 /dev/c rw\n")
	for path, want := range map[string]string{"/home/alice/bin/new": "/home", "/srv/a/bin": "/home", "/srv/with blank/x": "/srv/with blank", "/usr/local/bin": "/", "/homes": "/"} {
		if got := mountPoint(b.deps.Host, path); got != want {
			t.Errorf("%s is on %s, want %s", path, got, want)
		}
	}
}

// What pushes leave free has to be there besides what the registry itself needs.
func TestPreflight_SpaceAndMinFree(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.edit("minFree: 1GiB", "minFree: 1000PiB")
	for _, unit := range []string{"appliance.service", "appliance.socket"} { // as a killed install leaves it: config.yaml and no unit
		if err := os.Remove(b.path("etc/systemd/system/" + unit)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := PlanInstall(t.Context(), b.request(), b.deps)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(1000<<30+1024)) || !strings.Contains(err.Error(), fmt.Sprint(1000<<30+256)) {
		t.Errorf("PlanInstall: %v", err)
	}
}
