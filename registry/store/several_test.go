package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// several are two daemons with one database.
type several struct {
	*fixture
	other *fixture
	proxy *postgrestest.Proxy // between the other and the database
}

func newSeveral(t *testing.T) *several {
	t.Helper()
	f := (&fixture{t: t, dir: t.TempDir(), several: true}).begin()
	proxy, err := onServer.Proxy()
	f.must(err)
	o := f.options()
	o.Database = proxy.Address(o.Database)
	if f.bucket == nil {
		o.Storage = filepath.Join(t.TempDir(), "storage") // blobs are not what these tests are about
	}
	s, err := Open(f.ctx, o)
	f.must(err)
	other := *f
	other.Store = s
	t.Cleanup(func() { f.must(errors.Join(s.Close(), proxy.Close())) })
	return &several{fixture: f, other: &other, proxy: proxy}
}

// sparseIndex is a manifest that needs no blobs.
func sparseIndex(n int) []byte {
	return mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []any{}, "annotations": map[string]string{"n": fmt.Sprint(n)}})
}

func (s *several) put(tag string, n int) digest.Digest {
	s.t.Helper()
	m, err := s.Manifests.Put(s.ctx, "app", sparseIndex(n), PutOptions{Tags: []string{tag}})
	s.must(err)
	return m.Digest
}

// What one daemon has in its cache is as the database has it, whichever daemon changed that.
func TestSeveral_manifestsOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	old := s.put("latest", 1)
	if a, b := readTwice(t, s.other, "app", "latest", old); a != nil || b != nil {
		t.Fatal(a, b)
	}
	if _, _, ok := s.other.cache.get(cacheKey{"app", "latest"}); !ok {
		t.Error("a read manifest is not kept")
	}
	for n := range 50 {
		moved := s.put("latest", 2+n)
		if got, err := s.other.Manifests.ByTag(s.ctx, "app", "latest"); err != nil || got.Digest != moved || string(got.Body) != string(sparseIndex(2+n)) {
			t.Fatalf("after move %d the tag names %s (%v)", n, got.Digest, err)
		}
	}
	s.must(s.Tags.Delete(s.ctx, "app", "latest"))
	if a, b := readTwice(t, s.other, "app", "latest", old); !errors.Is(a, ErrNotFound) || b != nil {
		t.Errorf("after the tag was deleted: %v, %v", a, b)
	}
	s.must(s.Manifests.Delete(s.ctx, "app", old))
	if _, b := readTwice(t, s.other, "app", "latest", old); !errors.Is(b, ErrNotFound) {
		t.Errorf("after the manifest was deleted: %v", b)
	}
}

// The media type that a push declares is that of the repository, and not of the cache.
func TestSeveral_mediaTypeOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	body := []byte(`{"schemaVersion": 2, "manifests": []}`)
	for _, declared := range []string{"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"} {
		m, err := s.Manifests.Put(s.ctx, "app", body, PutOptions{MediaType: declared})
		s.must(err)
		got, err := s.other.Manifests.Get(s.ctx, "app", m.Digest)
		if s.must(err); got.MediaType != declared {
			t.Errorf("the other daemon has it as %s, want %s", got.MediaType, declared)
		}
	}
}

// A manifest is read in one round trip, whether it is kept or not.
func TestSeveral_roundTripsOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	d := s.put("latest", 1)
	other := s.put("next", 2)
	read := map[string]func() error{
		"by tag":    func() error { _, err := s.other.Manifests.ByTag(s.ctx, "app", "latest"); return err },
		"by digest": func() error { _, err := s.other.Manifests.Get(s.ctx, "app", d); return err },
	}
	for range 2 * 6 { // the statements are prepared on each connection
		s.must(errors.Join(read["by tag"](), read["by digest"]()))
	}
	for name, read := range read {
		before := s.proxy.Answers.Load()
		s.must(read())
		if n := s.proxy.Answers.Load() - before; n != 1 {
			t.Errorf("%s: %d round trips of a kept manifest, want 1", name, n)
		}
	}
	before := s.proxy.Answers.Load()
	_, err := s.other.Manifests.Get(s.ctx, "app", other)
	if s.must(err); s.proxy.Answers.Load()-before != 1 {
		t.Errorf("%d round trips of a manifest that is not kept, want 1", s.proxy.Answers.Load()-before)
	}
}

// What waits for changes at one daemon wakes by those of another.
func TestSeveral_wakesOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	noted := s.other.Noted()
	<-noted // it listens
	images := s.other.Changed()
	_, err := s.Feed.Register(s.ctx, Follower{ID: "f", Address: "f:8443"}, "")
	s.must(err)
	for name, c := range map[string]struct {
		wakes  <-chan struct{}
		change func()
	}{
		"images": {images, func() { s.put("latest", 1) }},
		"feed":   {s.other.Feed.Changed(), func() { s.put("next", 2) }},
		"role":   {noted, func() { s.must(s.SetNote(s.ctx, RoleNote, "{}")) }},
		"users":  {images, func() { s.must(s.Users.Put(s.ctx, User{Name: "init", Role: "admin"})) }},
	} {
		for len(images) > 0 {
			<-images
		}
		c.change()
		<-c.wakes
		t.Logf("%s: woken", name)
	}
	s.must(s.SetNote(s.ctx, "gc.last", "{}"))
	if topicOf(database.Change{Table: "meta", Op: database.Insert, Columns: noteNamed("gc.last")}) != "" {
		t.Error("others are told of a note that they do not go by")
	}
}

// noteNamed is the columns of a note.
type noteNamed string

func (n noteNamed) Old(columns ...any) error { columns[0] = string(n); return nil }
func (n noteNamed) New(columns ...any) error { return n.Old(columns...) }

// A write looks at what guards it in its own transaction: what another daemon wrote before counts.
func TestSeveral_guardOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	s.must(s.SetNote(s.ctx, RoleNote, "primary"))
	errTurned := errors.New("turned")
	ctx := Guard(s.ctx, RoleNote, func(text string) error {
		if text != "primary" {
			return errTurned
		}
		return nil
	})
	put := func(n int) error {
		_, err := s.other.Manifests.Put(ctx, "app", sparseIndex(n), PutOptions{Tags: []string{"latest"}})
		return err
	}
	s.must(put(1))
	if swapped, err := s.SwapNote(s.ctx, RoleNote, "follower", "superseded"); swapped || err != nil {
		t.Errorf("a note that is another was written: %v, %v", swapped, err)
	}
	if swapped, err := s.SwapNote(s.ctx, RoleNote, "primary", "follower"); !swapped || err != nil {
		t.Errorf("%v, %v", swapped, err)
	}
	if err := put(2); !errors.Is(err, errTurned) {
		t.Errorf("a shared write: %v", err)
	}
	if _, err := s.other.Manifests.DeleteImage(ctx, "app", digest.FromBytes(sparseIndex(1))); err == nil {
		t.Error("a deletion was not refused")
	}
	if m, err := s.Manifests.ByTag(s.ctx, "app", "latest"); err != nil || string(m.Body) != string(sparseIndex(1)) {
		t.Errorf("the tag names %s, %v", m.Digest, err)
	}
}

// One daemon has a name at a time. One that loses its connection writes nothing any more under it once
// another has it.
func TestSeveral_aloneOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	first, err := s.other.Alone(s.ctx, "jobs")
	s.must(err)
	host, err := os.Hostname()
	s.must(err)
	if _, err := s.Alone(s.ctx, "jobs"); err == nil {
		t.Error("two have it")
	} else if at, held := IsHeld(err); !held || at != fmt.Sprintf("%s (process %d)", host, os.Getpid()) {
		t.Errorf("%v: held at %q", err, at)
	}
	other, err := s.Alone(s.ctx, "another")
	s.must(err)
	other.Release()

	within, end := first.Within(s.ctx)
	defer end()
	s.must(s.other.SetNote(within, "gc.last", "1"))
	s.proxy.Cut() // the server gives it to another
	var second *Alone
	for second, err = s.Alone(s.ctx, "jobs"); err != nil; second, err = s.Alone(s.ctx, "jobs") {
		if _, held := IsHeld(err); !held {
			t.Fatal(err)
		}
	}
	defer second.Release()
	for errors.As(err, new(*database.UnavailableError)) || err == nil { // its connections come back
		err = s.other.SetNote(context.WithoutCancel(within), "gc.last", "2")
		if err == nil {
			t.Fatal("it wrote after another had begun")
		}
	}
	if !errors.Is(err, errNotAlone) {
		t.Error(err)
	}
	<-within.Done()
	first.Release()
	if note, err := s.Note(s.ctx, "gc.last"); err != nil || note != "1" {
		t.Errorf("the note is %q, %v", note, err)
	}
}
