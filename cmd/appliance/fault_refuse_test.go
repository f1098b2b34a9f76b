package main_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// filled is a directory with a few images whose daemon has ended well.
func filled(t *testing.T) (*faulty, []*testImage) {
	t.Helper()
	f := newFaulty(t, "")
	f.begin(t)
	var images []*testImage
	for i := range 40 {
		m := newTestImage(fmt.Sprint("app/", i%4), fmt.Sprint("v", i), randomBytes(1000))
		must(t, f.push(t.Context(), m))
		images = append(images, m)
	}
	f.stop(t)
	return f, images
}

// change rewrites a file in place.
func change(t *testing.T, path string, f func(content []byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, f(content), 0o600))
}

// TestRefused gives a daemon, and a command, what they must not work with. Each is refused with one
// message that names the file and the remedy; what was wrong stays as it was.
func TestRefused(t *testing.T) {
	f, images := filled(t)
	database, err := os.ReadFile(f.cfg.Database)
	must(t, err)
	for _, c := range []struct {
		name   string
		damage func(content []byte) []byte
		says   []string
	}{
		{"a database of garbage", func(c []byte) []byte { return randomBytes(len(c)) }, []string{"restore"}},
		{"a database with a garbage header", func(c []byte) []byte { return append(randomBytes(100), c[100:]...) }, []string{"restore"}},
		{"a database with a garbage first page", func(c []byte) []byte { copy(c[100:4096], randomBytes(3996)); return c }, []string{"restore"}},
		{"a truncated database", func(c []byte) []byte { return c[:len(c)/2] }, []string{"restore"}},
		{"a database of a few bytes", func(c []byte) []byte { return c[:50] }, []string{"restore"}},
		{"another program's database", func(c []byte) []byte { binary.BigEndian.PutUint32(c[68:], 7); return c }, []string{"restore"}},
		{"a database of a newer version", func(c []byte) []byte { binary.BigEndian.PutUint32(c[60:], 999); return c }, []string{"999", "newer", "restore"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			damaged := c.damage(bytes.Clone(database))
			must(t, os.WriteFile(f.cfg.Database, damaged, 0o600))
			for _, command := range [][]string{{"serve"}, {"gc"}} {
				f.refuses(t, command, append(c.says, f.cfg.Database)...)
			}
			now, err := os.ReadFile(f.cfg.Database)
			must(t, err)
			if !bytes.Equal(now, damaged) {
				t.Error("the damaged file was changed")
			}
		})
	}
	must(t, os.WriteFile(f.cfg.Database, database, 0o600))

	for _, c := range []struct {
		name string
		make func() error
	}{
		{"no blob directory", func() error { return nil }},
		{"an empty blob directory, as of a disk that is not mounted", func() error { return os.Mkdir(f.cfg.Storage, 0o700) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			away := f.cfg.Storage + ".away"
			must(t, os.Rename(f.cfg.Storage, away))
			must(t, c.make())
			for _, command := range [][]string{{"serve"}, {"gc"}} {
				f.refuses(t, command, f.cfg.Storage, "restore")
			}
			must(t, os.RemoveAll(f.cfg.Storage))
			must(t, os.Rename(away, f.cfg.Storage))
		})
	}
	t.Run("put back, everything is there", func(t *testing.T) {
		f.start(t)
		pullable(t, f, images)
		f.stop(t)
	})
}

func pullable(t *testing.T, f *faulty, images []*testImage) {
	t.Helper()
	for _, m := range images {
		if whole, err := f.pull(t.Context(), m); err != nil || !whole {
			t.Errorf("pull %s: %t, %v", m.tag, whole, err)
		}
	}
}

// TestRefused_secondOwner wants a store that another process has open.
func TestRefused_secondOwner(t *testing.T) {
	f := newFaulty(t, "")
	f.begin(t)
	lock := f.cfg.Database + ".lock"
	t.Run("a second daemon", func(t *testing.T) {
		f.refuses(t, []string{"serve"}, lock, "in use by another process")
	})
	t.Run("a command asks the daemon", func(t *testing.T) {
		if out, err := f.command("user", "list").CombinedOutput(); err != nil || !strings.Contains(string(out), "init") {
			t.Errorf("it says %s, %v", out, err)
		}
	})
	f.stop(t)
	s, err := store.Open(t.Context(), store.Options{Database: f.cfg.Database, Storage: f.cfg.Storage})
	must(t, err)
	for _, command := range [][]string{{"gc"}, {"user", "list"}, {"serve"}} {
		t.Run(strings.Join(command, " ")+" beside another command", func(t *testing.T) {
			f.refuses(t, command, lock, "in use by another process")
		})
	}
	must(t, s.Close())
	f.start(t)
	f.stop(t)
}

// TestRefused_permissions lets a daemon without rights find what it may not use.
func TestRefused_permissions(t *testing.T) {
	f := newFaulty(t, "")
	if os.Geteuid() == 0 { // root may use everything: become somebody
		f.become(t, 65534)
	}
	f.begin(t)
	must(t, f.push(t.Context(), newTestImage("app", "v1", randomBytes(1000))))
	f.stop(t)
	for _, c := range []struct {
		name, path string
		mode       os.FileMode
	}{
		{"a storage that cannot be entered", f.cfg.Storage, 0},
		{"blobs that cannot be written", filepath.Join(f.cfg.Storage, "sha256"), 0o500},
		{"an upload directory that cannot be written", filepath.Join(f.cfg.Storage, "uploads"), 0o500},
		{"a database that cannot be read", f.cfg.Database, 0},
		{"a database that cannot be written", f.cfg.Database, 0o400},
		{"a database directory that cannot be written", filepath.Dir(f.cfg.Database), 0o500},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := os.Stat(c.path)
			must(t, err)
			must(t, os.Chmod(c.path, c.mode))
			defer func() { must(t, os.Chmod(c.path, info.Mode().Perm())) }()
			f.refuses(t, []string{"serve"}, c.path, "permission denied")
		})
	}
	f.start(t)
	f.stop(t)
}

// become gives everything to an unprivileged user, who runs the program from now on.
func (f *faulty) become(t *testing.T, id int) {
	t.Helper()
	parent := filepath.Dir(f.root)
	must(t, os.Chmod(parent, 0o755))
	program, err := os.ReadFile(f.program)
	must(t, err)
	f.program = filepath.Join(parent, "appliance") // where anybody may run it
	must(t, os.WriteFile(f.program, program, 0o755))
	must(t, filepath.WalkDir(f.root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, id, id)
	}))
	f.as = &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}
}

// TestCorrupt damages what a daemon serves. Whatever is wrong is never given out as whole, is found
// by verify, and harms nothing else.
func TestCorrupt(t *testing.T) {
	f, images := filled(t)
	blob := func(m *testImage) (d digest.Digest, path string) {
		d = digest.FromBytes(m.contents[0])
		return d, filepath.Join(f.cfg.Storage, d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
	}
	truncated, truncatedPath := blob(images[0])
	flipped, flippedPath := blob(images[1])
	lost, lostPath := blob(images[2])
	change(t, truncatedPath, func(c []byte) []byte { return c[:len(c)/2] })
	change(t, flippedPath, func(c []byte) []byte { c[len(c)/2] ^= 0x10; return c })
	must(t, os.Remove(lostPath))
	f.start(t)
	for i, d := range []digest.Digest{truncated, flipped, lost} {
		path, want := "/v2/"+images[i].repo+"/blobs/"+d.String(), http.StatusNotFound
		if d == flipped {
			want = http.StatusOK // of which a client sees that it is not what it asked for
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} { // in this order: it is a read that finds it
			if a, err := f.ask(t.Context(), method, path, nil); err != nil || a.status != want {
				t.Errorf("%s of a damaged blob is answered %d, %v, with %d bytes", method, a.status, err, len(a.body))
			}
		}
	}
	pullable(t, f, images[3:])
	f.stop(t)
	f.finds(t, images[0].digest.String(), flipped.String(), images[2].digest.String()) // what is out of service lacks to its images

	f.start(t)
	for _, m := range images[:3] { // a client that does not ask before it pushes mends it
		d := digest.FromBytes(m.contents[0])
		_, err := f.demand(t.Context(), http.StatusCreated, http.MethodPost, "/v2/"+m.repo+"/blobs/uploads/?digest="+d.String(), bytes.NewReader(m.contents[0]),
			"Content-Type", "application/octet-stream")
		must(t, err)
	}
	pullable(t, f, images)
	f.stop(t)
	f.verify(t)
}

// problems are those that verify finds in a store that no process has open.
func (f *faulty) problems(t *testing.T) []store.Problem {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Database: f.cfg.Database, Storage: f.cfg.Storage})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	report, err := s.Integrity().Verify(t.Context(), store.VerifyOptions{Content: true})
	must(t, err)
	return report.Problems
}

// finds expects verify to find problems with exactly these, and to say a remedy.
func (f *faulty) finds(t *testing.T, names ...string) {
	t.Helper()
	problems := f.problems(t)
	found := map[string]bool{}
	for _, p := range problems {
		found[p.Name] = true
		if p.Remedy == "" {
			t.Errorf("%s has no remedy", p)
		}
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("verify does not find %s", name)
		}
		delete(found, name)
	}
	if len(found) > 0 {
		t.Errorf("verify finds %v as well", found)
	}
}

// TestCorrupt_databasePage overwrites pages in the middle of the database. What a page holds is
// lost; a daemon that can start says so in its log and gives out nothing that is not whole.
func TestCorrupt_databasePage(t *testing.T) {
	f, images := filled(t)
	database, err := os.ReadFile(f.cfg.Database)
	must(t, err)
	pages := len(database) / 4096
	for _, page := range rand.Perm(pages - 1)[:min(pages-1, 8)] {
		t.Run(fmt.Sprint("page ", page+2), func(t *testing.T) {
			damaged := bytes.Clone(database)
			copy(damaged[(page+1)*4096:], randomBytes(4096))
			must(t, os.WriteFile(f.cfg.Database, damaged, 0o600))
			f.serve(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			gone := f.gone
			go func() { // one that is refused never answers
				select {
				case <-gone:
					cancel()
				case <-ctx.Done():
				}
			}()
			for _, m := range images {
				a, err := f.ask(ctx, http.MethodGet, m.path()+m.digest.String(), nil)
				if err != nil {
					break
				}
				if a.status == http.StatusOK && !bytes.Equal(a.body, m.body) {
					t.Errorf("a manifest is given out with other bytes")
				}
			}
			f.kill()
			if said := f.said.String(); !strings.Contains(said, "malformed") && strings.Contains(said, "error:") {
				t.Errorf("it ended and said:\n%s", said)
			}
		})
	}
}
