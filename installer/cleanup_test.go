package installer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
)

// quayPod and others are what matters of the units of a mirror-registry 2.x.
const (
	quayPod   = "[Service]\nExecStart=/usr/bin/podman pod create \\\n    --name quay-pod \\\n    --infra-image example.com/pause:1 \\\n    --replace\n"
	quayRedis = "[Service]\nExecStart=/usr/bin/podman run \\\n    --name quay-redis \\\n    --secret=redis_pass,type=env \\\n    example.com/redis:1\n"
	quayApp   = "[Service]\nExecStart=/usr/bin/podman run \\\n    --name quay-app \\\n    -v /srv/quay/quay-config:/quay-registry/conf/stack:Z \\\n" +
		"    -v sqlite-storage:/sqlite:Z,U \\\n    -v /srv/quay/quay-storage:/datastorage:Z \\\n    example.com/quay:1\n"
	quayContainer = "[Container]\nImage=example.com/quay:3\nVolume=/srv/quay:/data:Z\nExec=serve --config /data/config.yaml\n"
	quayUpload    = "uploads/01234567-89ab-cdef-0123-456789abcdef"
	// quayConfig has the storage elsewhere than by default.
	quayConfig = "DB_URI: sqlite:////data/quay.db\nDISTRIBUTED_STORAGE_CONFIG:\n  default:\n  - LocalStorage\n  - storage_path: /data/images\n"
)

// quayBlob is a layer in a storage.
func quayBlob(storage string) string {
	return filepath.Join("srv/quay", storage, "sha256/ab", "abcd"+strings.Repeat("0", 60))
}

// tookOver has an appliance in the place of a mirror-registry, whose directories are as it left them.
func (b *box) tookOver(version int, change func(r *Request)) adopt.QuayInstall {
	b.t.Helper()
	imported := 0
	r := b.withQuay(version, &imported)
	q := adopt.QuayInstall{Version3: version == 3, Root: "/srv/quay", Storage: "/srv/quay/images", Database: "/srv/quay/quay.db"}
	files := map[string]string{
		"srv/quay/auth/admin-password": "secret", "srv/quay/quay.db": "rows", "srv/quay/quay.db.backup-20260101T000000Z": "rows", "srv/quay/registry-jwt.pem": "key",
		"srv/quay/config.yaml": quayConfig,
		quayBlob("images"):     "blob", "srv/quay/images/" + quayUpload + "/data": "",
		adopt.QuadletFile(b.deps.unitDir(b.user)): quayContainer,
	}
	if version == 2 {
		q.Storage, q.Database = "/srv/quay/quay-storage", "/volumes/sqlite-storage/quay_sqlite.db"
		units := b.deps.unitDir(b.user)
		files = map[string]string{
			"srv/quay/quay-config/config.yaml": "DB_URI: sqlite:////x\n", quayBlob("quay-storage"): "blob", "srv/quay/quay-storage/" + quayUpload: "",
			"volumes/sqlite-storage/quay_sqlite.db":  "rows",
			filepath.Join(units, "quay-pod.service"): quayPod, filepath.Join(units, "quay-redis.service"): quayRedis, filepath.Join(units, "quay-app.service"): quayApp,
		}
	}
	for name, content := range files {
		b.write(name, strings.ReplaceAll(content, "/srv/", b.path("srv")+"/")) // for FindRest, which is on no box
	}
	r.TakeOver.Quay = q
	if change != nil {
		change(&r)
	}
	if _, err := b.plan(r).Apply(b.t.Context(), nil); err != nil {
		b.t.Fatal(err)
	}
	return q
}

// withPodman has a podman with all of a mirror-registry, and returns what is still there.
func (b *box) withPodman() map[string]bool {
	there := map[string]bool{"pod quay-pod": true, "container quay-app": true, "container quay-redis": true, "secret redis_pass": true,
		"volume sqlite-storage": true, "image example.com/pause:1": true, "image example.com/redis:1": true, "image example.com/quay:1": true,
		"container systemd-quay": true, "image example.com/quay:3": true, "container mine": true, "image example.com/mine:1": true}
	run := b.run
	b.deps.Host = host.Under(b.root, func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if name != "podman" {
			return run(ctx, name, args...)
		}
		last := args[len(args)-1]
		switch args[0] + " " + args[1] {
		case "ps --all":
			if last == "ancestor=example.com/redis:1" {
				return []byte("0123abcd\n"), nil // of another container
			}
			return nil, nil
		case "volume inspect":
			return []byte("/volumes/" + last + "\n"), nil
		case "rm --ignore":
			delete(there, "container "+last)
			return nil, nil
		case "rmi --":
			delete(there, "image "+last)
			return nil, nil
		}
		if !there[args[0]+" "+last] {
			return nil, fmt.Errorf("no such %s: %s", args[0], last)
		}
		if args[1] == "rm" {
			delete(there, args[0]+" "+last)
			if args[0] == "volume" {
				return nil, os.RemoveAll(b.path("volumes/" + last))
			}
		}
		return nil, nil
	})
	return there
}

// podmanHere puts a podman that knows the volumes of the box into the path, for FindRest.
func (b *box) podmanHere() {
	b.t.Helper()
	podman := filepath.Join(b.t.TempDir(), "podman")
	script := fmt.Sprintf("#!/bin/sh\nfor v; do :; done\n[ -e %[1]s/$v ] && echo %[1]s/$v\n", b.path("volumes"))
	if err := os.WriteFile(podman, []byte(script), 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.t.Setenv("PATH", filepath.Dir(podman)+":"+os.Getenv("PATH"))
}

// found is what the command finds of a mirror-registry.
func (b *box) found() adopt.QuayInstall {
	b.t.Helper()
	q, err := adopt.FindRest(b.t.Context(), b.path(b.deps.unitDir(b.user)), RetiredSuffix)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, path := range []*string{&q.Root, &q.Storage, &q.Database} {
		*path = strings.TrimPrefix(*path, b.root)
	}
	return q
}

func (b *box) cleanup(q adopt.QuayInstall, content bool) *Plan {
	b.t.Helper()
	p, err := PlanCleanup(b.t.Context(), Request{User: b.user, RemoveContent: content}, b.deps, q)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// cleaned expects that only the appliance is left.
func (b *box) cleaned(there map[string]bool, version int) {
	b.t.Helper()
	for _, path := range []string{"srv/quay", "volumes/sqlite-storage/quay_sqlite.db"} {
		if exists(b.path(path)) {
			b.t.Errorf("%s is left", path)
		}
	}
	files, _ := b.quayUnits(version)
	for _, file := range files {
		if exists(b.path(file + RetiredSuffix)) {
			b.t.Errorf("%s is left", file+RetiredSuffix)
		}
	}
	for _, name := range []string{"container mine", "image example.com/mine:1", "image example.com/redis:1"} {
		if !there[name] {
			b.t.Errorf("the %s, of others, is gone", name)
		}
	}
	gone := []string{"container systemd-quay", "image example.com/quay:3"}
	if version == 2 {
		gone = []string{"pod quay-pod", "container quay-app", "container quay-redis", "secret redis_pass", "volume sqlite-storage", "image example.com/pause:1", "image example.com/quay:1"}
	}
	for _, name := range gone {
		if there[name] {
			b.t.Errorf("the %s is left", name)
		}
	}
}

func TestCleanup(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		eachMode(t, func(t *testing.T, b *box) {
			q, there := b.tookOver(version, nil), b.withPodman()
			before := b.snapshot()
			p := b.cleanup(q, true)
			if text := strings.Join(p.Describe(), "\n"); !strings.Contains(text, "(4 B), and the directory if it is empty then") || p.Loses == "" {
				t.Errorf("it tells no sizes: loses %q\n%s", p.Loses, text)
			}
			same(t, "after a plan", b.snapshot(), before)
			if _, err := p.Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			b.cleaned(there, version)
			after := b.snapshot()
			for path, what := range before {
				if strings.HasPrefix(path, "/srv/quay") || strings.HasPrefix(path, "/volumes") || strings.HasSuffix(path, RetiredSuffix) {
					continue
				}
				if after[path] != what {
					t.Errorf("%s was %q, is %q", path, what, after[path])
				}
			}
			if p := b.cleanup(q, true); len(p.Describe()) > 0 {
				t.Errorf("a second time it would: %s", strings.Join(p.Describe(), "\n"))
			}
		})
	})
}

// TestCleanup_withoutContent leaves directories and volumes, and the retired units, which lead to them.
func TestCleanup_withoutContent(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		b := newBox(t, false)
		q, there := b.tookOver(version, nil), b.withPodman()
		before := b.snapshot()
		if _, err := b.cleanup(q, false).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		after := b.snapshot()
		for path, what := range before {
			if got, there := after[path]; !there || got != what {
				t.Errorf("%s was %q, is %q (there: %v)", path, what, got, there)
			}
		}
		if !there["volume sqlite-storage"] {
			t.Error("a volume is gone")
		}
	})
}

// TestCleanup_killedAtEachStep, and at each file that a step removes: the next one goes on, by what it finds
// then.
func TestCleanup_killedAtEachStep(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		for step, done := 0, false; !done; step++ {
			for file, died := 0, true; died; file += 2 {
				b := newBox(t, false)
				b.podmanHere()
				b.tookOver(version, nil)
				there := b.withPodman()
				p := b.cleanup(b.found(), true)
				if done = step == len(p.steps); done {
					return
				}
				died = b.killIn(p, step, file)
				if _, err := b.cleanup(b.found(), true).Apply(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				b.cleaned(there, version)
				if t.Failed() {
					t.Fatalf("killed at file %d of step %d", file, step)
				}
			}
		}
	})
}

// killIn kills a cleanup at a step, or within one that removes files. It reports whether there may be a later
// moment within the step.
func (b *box) killIn(p *Plan, step, file int) (died bool) {
	b.t.Helper()
	s, ok := p.steps[step].(*sweep)
	if !ok {
		b.kill(p, step)
		return false
	}
	defer func() {
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		} else {
			died = r != nil
		}
	}()
	known, seen := s.known, 0
	s.known = func(name string, dir bool) bool {
		if seen++; seen > file {
			panic(killed{})
		}
		return known(name, dir)
	}
	if _, err := p.Apply(b.t.Context(), nil); err != nil {
		b.t.Fatal(err)
	}
	return false
}

// TestCleanup_leaves what the appliance uses, and what is not of the mirror-registry.
func TestCleanup_leaves(t *testing.T) {
	for name, c := range map[string]struct {
		version int
		request func(r *Request)
		spoil   func(b *box)
		stays   []string
		warns   string
	}{
		"files of the user's": {2, nil, func(b *box) { b.write("srv/quay/notes.txt", "mine") }, []string{"srv/quay/notes.txt"}, "/srv/quay/notes.txt"},
		"a storage that is shared": {3, nil, func(b *box) { b.edit("/root/quay-install/quay-storage", "/srv/quay/images") },
			[]string{quayBlob("images")}, "/srv/quay/images stays: the appliance uses /srv/quay/images"},
		"a storage that is shared by a link": {2, nil, func(b *box) { b.edit("/root/quay-install/quay-storage", "/blobs") },
			[]string{quayBlob("quay-storage")}, "/srv/quay/quay-storage stays: the appliance uses /blobs"},
		"a directory that is shared": {3, func(r *Request) { r.QuayRoot = "/srv/quay" }, nil,
			[]string{"srv/quay/quay-config/config.yaml", "srv/quay/sqlite-storage/appliance.db", "srv/quay/quay-storage/sha256/ab/abcd"}, ""},
		"a file that the configuration names, by a link": {2, nil, func(b *box) {
			b.append("upstreams:\n  - prefix: quay.io\n    url: https://quay.io\n    ca: /root/ca.pem\n")
			if err := os.Symlink("../srv/quay/quay-config/ssl.cert", b.path("root/ca.pem")); err != nil {
				b.t.Fatal(err)
			}
		}, []string{"srv/quay/quay-config/ssl.cert"}, "/srv/quay/quay-config/ssl.cert (the appliance uses /root/ca.pem)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, false)
			if err := os.Symlink("srv/quay/quay-storage", b.path("blobs")); err != nil {
				t.Fatal(err)
			}
			q := b.tookOver(c.version, c.request)
			b.withPodman()
			if c.spoil != nil {
				c.spoil(b)
			}
			r := Request{RemoveContent: true}
			p, err := PlanCleanup(t.Context(), r, b.deps, q)
			if err != nil {
				t.Fatal(err)
			}
			if told := fmt.Sprint(p.Warnings, p.Stays); !strings.Contains(told, c.warns) {
				t.Errorf("it does not tell %q: %s", c.warns, told)
			}
			if _, err := p.Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			for _, path := range c.stays {
				if !exists(b.path(path)) {
					t.Errorf("%s is gone", path)
				}
			}
			if rest := []string{"srv/quay/quay-rootCA", "srv/quay/registry-jwt.pem"}[c.version-2]; exists(b.path(rest)) {
				t.Error("the rest is not removed")
			}
		})
	}
}

// TestCleanup_ofOthers leaves what the mirror-registry has not made, wherever it lies, and says so before and
// after. It removes the rest.
func TestCleanup_ofOthers(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		b := newBox(t, false)
		q := b.tookOver(version, nil)
		there := b.withPodman()
		storage, database := "srv/quay/images", "srv/quay"
		stays := []string{"srv/quay/ssl.key.bak", "srv/quay/auth/other"}
		if version == 2 {
			storage, database = "srv/quay/quay-storage", "volumes/sqlite-storage"
			stays = []string{"srv/quay/quay-config/pull-secret.json", "srv/quay/quay-config/extra_ca_certs/site.crt", "srv/quay/quay-rootCA/other.key", "srv/quay/quay.tar"}
		}
		blob := strings.Repeat("0", 64)
		stays = append(stays, storage+"/sha256/notes", storage+"/sha256/ab/"+blob, storage+"/uploads/mine", storage+"/ab/"+blob, database+"/quay_sqlite.db.old")
		for _, path := range stays {
			b.write(path, "mine")
		}
		link := storage + "/sha256/ab/" + strings.Replace(blob, "00", "ab", 1) // which is not followed
		if err := os.Symlink("/etc/passwd", b.path(link)); err != nil {
			t.Fatal(err)
		}
		stays = append(stays, link)
		p := b.cleanup(q, true)
		if _, err := p.Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		remaining, err := p.Remaining(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range stays {
			if !exists(b.path(path)) {
				t.Errorf("%s is gone", path)
			}
			for when, told := range map[string][]string{"before": p.Stays, "after": remaining} {
				if !slices.ContainsFunc(told, func(stays string) bool { return within("/"+path, stays) }) {
					t.Errorf("it does not tell %s that %s stays: %v", when, path, told)
				}
			}
		}
		for path := range b.snapshot() {
			path = strings.TrimPrefix(path, "/")
			leads := slices.ContainsFunc(stays, func(stay string) bool { return within(stay, path) })
			if (within(path, "srv/quay") || within(path, "volumes")) && !leads {
				t.Errorf("%s is left", path)
			}
		}
		if version == 2 && !there["volume sqlite-storage"] {
			t.Error("podman's volume is removed with what is in it")
		}
	})
}

// TestCleanup_refuses to touch a mirror-registry that is in use, and a host without an appliance.
func TestCleanup_refuses(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		b, imported := newBox(t, false), 0
		b.withQuay(version, &imported)
		if _, err := PlanCleanup(t.Context(), Request{RemoveContent: true}, b.deps, adopt.QuayInstall{Root: "/srv/quay"}); !isNotInstalled(err) {
			t.Errorf("without an appliance: %v", err)
		}
		b = newBox(t, false)
		q := b.tookOver(version, nil)
		files, _ := b.quayUnits(version)
		if err := os.Remove(b.path(files[0])); version == 2 && err != nil { // the alias of ours
			t.Fatal(err)
		}
		if err := os.Rename(b.path(files[0]+RetiredSuffix), b.path(files[0])); err != nil {
			t.Fatal(err)
		}
		if _, err := PlanCleanup(t.Context(), Request{RemoveContent: true}, b.deps, q); err == nil || !strings.Contains(err.Error(), "nothing was taken over") {
			t.Errorf("of one that is in use: %v", err)
		}
	})
}
