package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestStore_PutManifest(t *testing.T) {
	t.Run("missing layers are refused and named, and nothing is kept", func(t *testing.T) {
		f := newFixture(t)
		config := f.blob("app", "{}")
		gone := descriptor("x/y", []byte("never pushed"))
		body := manifestOf(config, gone)
		_, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{Tags: []string{"v1"}})
		var missing *MissingError
		if !errors.As(err, &missing) || !slices.Equal(missing.Digests, []digest.Digest{gone.Digest}) {
			t.Fatalf("got %v", err)
		}
		_, err = f.Manifests.Get(f.ctx, "app", digest.FromBytes(body))
		isNotFound(t, err)
		_, err = f.Manifests.ByTag(f.ctx, "app", "v1")
		isNotFound(t, err)
	})
	t.Run("layers of another repository are not this one's", func(t *testing.T) {
		f := newFixture(t)
		config, layer := f.blob("theirs", "{}"), f.blob("theirs", "layer")
		_, err := f.Manifests.Put(f.ctx, "mine", manifestOf(config, layer), PutOptions{})
		var missing *MissingError
		if !errors.As(err, &missing) || len(missing.Digests) != 2 {
			t.Fatalf("got %v", err)
		}
		for _, d := range []digest.Digest{config.Digest, layer.Digest} {
			_, err := f.Blobs.Mount(f.ctx, "mine", "theirs", d)
			f.must(err)
		}
		_, err = f.Manifests.Put(f.ctx, "mine", manifestOf(config, layer), PutOptions{})
		f.must(err)
	})
	t.Run("bytes are kept as they came", func(t *testing.T) {
		f := newFixture(t)
		config := f.blob("app", "{}")
		body := append(bytes.ReplaceAll(manifestOf(config), []byte(","), []byte(" ,\n\t ")), "\n\n"...)
		put, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{})
		f.must(err)
		got, err := f.Manifests.Get(f.ctx, "app", digest.FromBytes(body))
		f.must(err)
		if !bytes.Equal(got.Body, body) || got.Digest != put.Digest {
			t.Error("the bytes were changed")
		}
	})
	t.Run("body that does not hash to its digest is refused", func(t *testing.T) {
		f := newFixture(t)
		config := f.blob("app", "{}")
		_, err := f.Manifests.Put(f.ctx, "app", manifestOf(config), PutOptions{Digest: dA})
		var wrong *DigestError
		if !errors.As(err, &wrong) || wrong.Want != dA {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("sha512", func(t *testing.T) {
		f := newFixture(t)
		body := manifestOf(f.blob("app", "{}"))
		d := digest.SHA512.FromBytes(body)
		_, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{Digest: d})
		f.must(err)
		got, err := f.Manifests.Get(f.ctx, "app", d)
		f.must(err)
		if !bytes.Equal(got.Body, body) {
			t.Error("other bytes")
		}
	})
	t.Run("put again, it changes nothing", func(t *testing.T) {
		f := newFixture(t)
		first := f.pushImage("app", "app", "v1")
		before, err := f.Stats(f.ctx)
		f.must(err)
		f.clock.add(time.Hour)
		again := f.pushImage("app", "app", "v1")
		after, err := f.Stats(f.ctx)
		f.must(err)
		if before != after || !again.Created.Equal(first.Created) {
			t.Errorf("%+v became %+v", before, after)
		}
		if h, err := f.Tags.history(f.ctx, "app", "v1"); err != nil || len(h) != 1 {
			t.Errorf("history %v, %v", h, err)
		}
	})
	t.Run("an index whose children are absent is kept", func(t *testing.T) {
		f := newFixture(t)
		body := index(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: dA, Size: 3})
		m, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{Tags: []string{"sparse"}})
		f.must(err)
		_, err = f.Manifests.Get(f.ctx, "app", m.Digest)
		f.must(err)
	})
	t.Run("a foreign layer need not be held", func(t *testing.T) {
		f := newFixture(t)
		foreign := ocispec.Descriptor{MediaType: "x/y", Digest: dA, Size: 3, URLs: []string{"https://e.example"}}
		_, err := f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", "{}"), foreign), PutOptions{})
		f.must(err)
	})
	t.Run("bad names are refused before anything is read", func(t *testing.T) {
		f := newFixture(t)
		body := index()
		for _, bad := range []struct {
			repo string
			o    PutOptions
		}{
			{"App", PutOptions{}}, {"app", PutOptions{Tags: []string{"ok", "a/b"}}}, {"app", PutOptions{Digest: "sha256:x"}},
		} {
			_, err := f.Manifests.Put(f.ctx, bad.repo, body, bad.o)
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Errorf("%+v: got %v", bad, err)
			}
		}
	})
	t.Run("what is put again is what it was last put as", func(t *testing.T) {
		f := newFixture(t)
		body := mustJSON(map[string]any{"manifests": []any{}})
		for _, mediaType := range []string{"application/json", ocispec.MediaTypeImageIndex, "application/json"} {
			m, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{MediaType: mediaType})
			f.must(err)
			got, err := f.Manifests.Get(f.ctx, "app", m.Digest)
			f.must(err)
			if got.MediaType != mediaType || m.MediaType != mediaType {
				t.Errorf("put as %s: it is %s, and was said to be %s", mediaType, got.MediaType, m.MediaType)
			}
		}
	})
}

func isNotFound(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestStore_DeleteManifest(t *testing.T) {
	f := newFixture(t)
	child := f.pushImage("app", "child", "amd64")
	parent, err := f.Manifests.Put(f.ctx, "app", index(child.Descriptor()), PutOptions{Tags: []string{"v1", "latest"}})
	f.must(err)
	other := f.pushImage("app", "other", "other")
	f.pushImage("copy", "child", "kept")

	f.must(f.Manifests.Delete(f.ctx, "app", parent.Digest))
	_, err = f.Manifests.Get(f.ctx, "app", parent.Digest)
	isNotFound(t, err)
	tags, _, err := f.Tags.List(f.ctx, "app", "", -1)
	f.must(err)
	if strings.Join(tags, " ") != "amd64 other" {
		t.Errorf("tags %v", tags)
	}
	isNotFound(t, f.Manifests.Delete(f.ctx, "app", parent.Digest))
	isNotFound(t, f.Manifests.Delete(f.ctx, "unheard/of", parent.Digest))

	f.must(f.Manifests.Delete(f.ctx, "app", child.Digest))
	if _, err := f.Manifests.ByTag(f.ctx, "copy", "kept"); err != nil {
		t.Errorf("deleting it in one repository took it from another: %v", err)
	}
	f.must(f.Manifests.Delete(f.ctx, "copy", child.Digest))
	if n := f.count(`SELECT count(*) FROM manifests`); n != 1 {
		t.Errorf("%d manifests, want only %s", n, other.Digest)
	}
	if n := f.count(`SELECT count(*) FROM manifest_refs WHERE manifest <> ?`, other.Digest); n != 0 {
		t.Errorf("%d references of manifests that are gone", n)
	}
}

func TestStore_DeleteManifest_takesAnIndexWhole(t *testing.T) {
	f := newFixture(t)
	only, shared, tagged := f.pushImage("app", "only"), f.pushImage("app", "shared"), f.pushImage("app", "tagged", "amd64")
	put := func(repo, tag string, children ...ocispec.Descriptor) Manifest {
		m, err := f.Manifests.Put(f.ctx, repo, index(children...), PutOptions{Tags: []string{tag}})
		f.must(err)
		return m
	}
	nested := put("app", "nested", only.Descriptor())
	f.must(f.Tags.Delete(f.ctx, "app", "nested"))
	absent := descriptor(ocispec.MediaTypeImageManifest, []byte("never pushed"))
	first := put("app", "v1", nested.Descriptor(), shared.Descriptor(), tagged.Descriptor(), absent, shared.Descriptor())
	second := put("app", "v2", shared.Descriptor())
	f.pushImage("copy", "only")

	held := func(repo string, m Manifest) bool {
		_, err := f.Manifests.Get(f.ctx, repo, m.Digest)
		if err != nil {
			isNotFound(t, err)
		}
		return err == nil
	}
	f.must(f.Manifests.Delete(f.ctx, "app", first.Digest))
	if held("app", nested) || held("app", only) {
		t.Error("children that only the deleted index had are still there")
	}
	if !held("app", shared) || !held("app", tagged) {
		t.Error("a child that another index or a tag has went with the deleted one")
	}
	if !held("copy", only) {
		t.Error("another repository lost its manifest")
	}
	f.must(f.Manifests.Delete(f.ctx, "app", second.Digest))
	if held("app", shared) {
		t.Error("the last index that had it is gone, and the child is still there")
	}
}

func (f *fixture) count(text string, args ...any) int {
	f.t.Helper()
	var n int
	f.must(f.db.Reader().QueryRowContext(f.ctx, text, args...).Scan(&n))
	return n
}

func TestStore_Tags(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "b", "a", "B", "c10", "c9")
	for _, test := range []struct {
		last string
		n    int
		want string
		more bool
	}{
		{"", -1, "B a b c10 c9", false},
		{"", 2, "B a", true},
		{"a", 2, "b c10", true},
		{"c10", 2, "c9", false},
		{"", 5, "B a b c10 c9", false},
		{"nothing after", 5, "", false},
		{"bb", 1, "c10", true},
		{"", 0, "", false},
	} {
		got, more, err := f.Tags.List(f.ctx, "app", test.last, test.n)
		f.must(err)
		if strings.Join(got, " ") != test.want || more != test.more || got == nil {
			t.Errorf("after %q, %d: %v %v, want %s %v", test.last, test.n, got, more, test.want, test.more)
		}
	}
	_, _, err := f.Tags.List(f.ctx, "unheard/of", "", -1)
	isNotFound(t, err)
}

func TestStore_Repositories(t *testing.T) {
	f := newFixture(t)
	for _, repo := range []string{"b", "a/x", "a"} {
		f.pushImage(repo, "app", "v1")
	}
	f.blob("only-a-blob", "blob")
	names, more, err := f.Repositories(f.ctx, "", 2)
	f.must(err)
	if strings.Join(names, " ") != "a a/x" || !more {
		t.Errorf("%v %v", names, more)
	}
	names, more, err = f.Repositories(f.ctx, "a/x", -1)
	f.must(err)
	if strings.Join(names, " ") != "b" || more {
		t.Errorf("%v %v", names, more)
	}
}

func TestStore_Referrers(t *testing.T) {
	f := newFixture(t)
	subject := f.pushImage("app", "app", "v1")
	config := f.blob("app", "{}")
	sign := func(repo, artifactType string) Manifest {
		t.Helper()
		f.clock.add(time.Second)
		s := subject.Descriptor()
		m, err := f.Manifests.Put(f.ctx, repo, mustJSON(ocispec.Manifest{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Config: config,
			Layers: []ocispec.Descriptor{}, Subject: &s, Annotations: map[string]string{"for": repo},
		}), PutOptions{})
		f.must(err)
		return m
	}
	first, second := sign("app", "z/signature"), sign("app", "a/sbom")
	byConfig := sign("app", "")
	_, err := f.Blobs.Mount(f.ctx, "other", "app", config.Digest)
	f.must(err)
	sign("other", "z/signature")

	list := func(repo, artifactType string) []digest.Digest {
		t.Helper()
		got, err := f.Manifests.Referrers(f.ctx, repo, subject.Digest, artifactType)
		f.must(err)
		return got
	}
	if got, want := list("app", ""), []digest.Digest{first.Digest, second.Digest, byConfig.Digest}; !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := list("app", "a/sbom"); len(got) != 1 || got[0] != second.Digest {
		t.Errorf("got %v", got)
	}
	if got := list("app", config.MediaType); len(got) != 1 || got[0] != byConfig.Digest {
		t.Errorf("by the type of the config: %v", got)
	}
	if got := list("unheard/of", ""); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	f.must(f.Manifests.Delete(f.ctx, "app", subject.Digest))
	if got := list("app", ""); len(got) != 3 {
		t.Errorf("with the subject gone: %v", got)
	}
}

// In a repository of many manifests, those that name a subject are few.
func TestStore_Referrers_BeginWithTheirSubject_SQLite(t *testing.T) {
	f := newFixture(t)
	for _, state := range []string{"new", "with statistics"} {
		if plan := f.explain(referrersOf, "app", dA, ""); !strings.HasPrefix(plan, "SEARCH m USING INDEX manifests_by_subject (subject=?)") ||
			!strings.Contains(plan, "SEARCH rm USING PRIMARY KEY (repository=? AND digest=?)") {
			t.Errorf("%s: the plan is\n%s", state, plan)
		}
		for i := range 100 {
			f.pushImage("app", fmt.Sprint(i))
		}
		f.must(f.Maintain(f.ctx))
	}
}

func TestStore_TagHistory(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("app", "one", "v"), f.pushImage("app", "two", "v")
	f.must(f.Tags.Delete(f.ctx, "app", "v"))
	isNotFound(t, f.Tags.Delete(f.ctx, "app", "v"))
	moves, err := f.Tags.history(f.ctx, "app", "v")
	f.must(err)
	var got []string
	for _, m := range moves {
		got = append(got, string(m.Was)+">"+string(m.Became))
	}
	want := []string{string(two.Digest) + ">", string(one.Digest + ">" + two.Digest), string(">" + one.Digest)}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for i := range pushesKept + 20 {
		f.pushImage("app", []string{"one", "two"}[i%2], "v")
	}
	moves, err = f.Tags.history(f.ctx, "app", "v")
	f.must(err)
	if len(moves) != pushesKept {
		t.Errorf("%d moves are kept, want %d", len(moves), pushesKept)
	}
}

func TestStore_TagChecked(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "one", "v")
	at, err := f.Tags.Checked(f.ctx, "app", "v")
	f.must(err)
	if !at.IsZero() {
		t.Errorf("never checked, but %v", at)
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	f.must(f.Tags.SetChecked(f.ctx, "app", "v", when))
	f.pushImage("app", "two", "v")
	if at, err = f.Tags.Checked(f.ctx, "app", "v"); err != nil || !at.Equal(when) {
		t.Errorf("got %v, %v", at, err)
	}
	isNotFound(t, f.Tags.SetChecked(f.ctx, "app", "w", when))
	_, err = f.Tags.Checked(f.ctx, "app", "w")
	isNotFound(t, err)
}

// Invariant 4. A write transaction is open and has written; every kind of read answers meanwhile.
func TestStore_ReadsDoNotWaitForTheWriter(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	layer := digest.FromString("layer of app")
	err := f.db.Write(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM tags`)
		f.must(err)
		_, err = f.Manifests.Get(f.ctx, "app", m.Digest)
		f.must(err)
		_, err = f.Manifests.ByTag(f.ctx, "app", "v1") // as it was before
		f.must(err)
		_, err = f.Blobs.Stat(f.ctx, "app", layer)
		f.must(err)
		_, _, err = f.Tags.List(f.ctx, "app", "", -1)
		f.must(err)
		_, err = f.Manifests.Referrers(f.ctx, "app", m.Digest, "")
		f.must(err)
		_, err = f.Stats(f.ctx)
		return err
	})
	f.must(err)
	_, err = f.Manifests.ByTag(f.ctx, "app", "v1")
	isNotFound(t, err)
}

// Readers that forget a connection deadlock the pool in time; here there are more
// calls than connections.
func TestStore_ReadsGiveTheirConnectionBack(t *testing.T) {
	f := newFixture(t)
	for range 3 * f.db.Reader().Stats().MaxOpenConnections {
		_, err := f.Manifests.Get(f.ctx, "app", dA)
		isNotFound(t, err)
		_, err = f.Blobs.Stat(f.ctx, "app", dA)
		isNotFound(t, err)
		_, err = f.Users.Get(f.ctx, "nobody")
		isNotFound(t, err)
		_, err = f.Runs.Get(f.ctx, "nothing")
		isNotFound(t, err)
	}
	if n := f.db.Reader().Stats().InUse; n != 0 {
		t.Errorf("%d connections are in use", n)
	}
}

func TestStore_StatsAndCheck(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1", "v2")
	f.blob("other", "blob")
	got, err := f.Stats(f.ctx)
	f.must(err)
	want := Stats{Repositories: 1, Manifests: 1, Tags: 2, Blobs: 3, BlobBytes: int64(len(`{"config of":"app"}layer of appblob`))}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	f.must(f.CheckDatabase(f.ctx))
	f.must(f.CheckStorage(f.ctx))
	gone := filepath.Join(f.storage(), "uploads")
	if f.bucket != nil {
		gone = f.storage()
	}
	f.must(os.RemoveAll(gone))
	if f.CheckStorage(f.ctx) == nil {
		t.Error("storage that is gone is healthy")
	}
}

func BenchmarkManifest(b *testing.B) {
	f := newFixture(b)
	m := f.pushImage("openshift/release", "app", "v1")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.Manifests.Get(f.ctx, "openshift/release", m.Digest); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkPutManifest(b *testing.B) {
	f := newFixture(b)
	config := f.blob("openshift/release", "{}")
	var layers []ocispec.Descriptor
	for i := range 10 {
		layers = append(layers, f.blob("openshift/release", fmt.Sprint("layer", i)))
	}
	b.ResetTimer()
	for i := range b.N {
		layers[0].Annotations = map[string]string{"n": fmt.Sprint(i)}
		if _, err := f.Manifests.Put(f.ctx, "openshift/release", manifestOf(config, layers...), PutOptions{Tags: []string{fmt.Sprint(i % 100)}}); err != nil {
			b.Fatal(err)
		}
	}
}
