package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

func (f *fixture) verified(o VerifyOptions) VerifyReport {
	f.t.Helper()
	r, err := f.Integrity().Verify(f.ctx, o)
	f.must(err)
	return r
}

// corrupt changes the database behind the back of its own rules.
func (f *fixture) corrupt(text string, args ...any) {
	f.t.Helper()
	if f.exec(text, args...) == 0 {
		f.t.Fatalf("%s changed nothing", text)
	}
}

func (f *fixture) truncate(d digest.Digest, size int64) {
	f.t.Helper()
	f.must(os.Truncate(f.path(d), size))
}

func (f *fixture) flip(d digest.Digest) {
	f.t.Helper()
	content, err := os.ReadFile(f.path(d))
	f.must(err)
	content[len(content)/2] ^= 1
	f.must(os.WriteFile(f.path(d), content, 0o600))
}

// unreadable makes reads of a blob fail with EIO, by the one file that does so on every Linux: the
// memory of this process, of which the first page is never mapped.
func (f *fixture) unreadable(d digest.Digest) {
	f.t.Helper()
	f.must(os.Remove(f.path(d)))
	f.must(os.Symlink("/proc/self/mem", f.path(d)))
}

// variety fills a store with one of each kind of thing, all of it as it must be.
func (f *fixture) variety() Manifest {
	f.t.Helper()
	m := f.pushImage("team/app", "app", "v1", "latest")
	child := f.pushImage("team/multi", "child")
	sparse := descriptor(ocispec.MediaTypeImageManifest, []byte("a child that is not here"))
	sparse.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	_, err := f.Manifests.Put(f.ctx, "team/multi", index(child.Descriptor(), sparse), PutOptions{Tags: []string{"v1"}})
	f.must(err)
	foreign := descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", []byte("not here"))
	_, err = f.Manifests.Put(f.ctx, "windows", manifestOf(f.blob("windows", "{}"), foreign), PutOptions{})
	f.must(err)
	signature := mustJSON(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Config: f.blob("team/app", "signature"), Layers: []ocispec.Descriptor{},
		Subject: &ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, ArtifactType: "application/x.sig",
		Annotations: map[string]string{"b": "<2>", "a": "1"},
	})
	d512 := digest.SHA512.FromBytes(signature)
	_, err = f.Manifests.Put(f.ctx, "team/app", signature, PutOptions{Digest: d512})
	f.must(err)
	f.must(f.Blobs.RecordSource(f.ctx, "lazy", "quay.io", "lazy"))
	_, err = f.Manifests.PutPulled(f.ctx, "lazy", manifestOf(descriptor("x/y", []byte("later")), descriptor("x/y", []byte("later too"))), PutOptions{Tags: []string{"v1"}})
	f.must(err)
	run, err := f.Runs.Begin(f.ctx, "under way")
	f.must(err)
	staged := index(sparse)
	f.must(run.PutManifest(f.ctx, "staged", descriptor(ocispec.MediaTypeImageIndex, staged), staged))
	return m
}

func TestStore_Verify_clean(t *testing.T) {
	f := newFixture(t)
	f.variety()
	var calls int
	got := f.verified(VerifyOptions{Content: true, Progress: func(_ VerifyReport, of StoreSize) { calls++ }})
	if !got.Clean() {
		t.Fatalf("problems: %v", got.Problems)
	}
	stats, err := f.Stats(f.ctx)
	f.must(err)
	if got.Manifests != stats.Manifests || got.Tags != stats.Tags || got.Blobs != stats.Blobs || got.BlobBytes != stats.BlobBytes {
		t.Errorf("verified %+v of %+v", got, stats)
	}
	if got.ContentBytes != stats.BlobBytes || got.References == 0 || got.Unfetched != 2 || got.ExtraFiles != 0 || calls < 8 {
		t.Errorf("report %+v after %d calls of progress", got, calls)
	}
	if got := f.verified(VerifyOptions{}); got.ContentBytes != 0 {
		t.Errorf("content was read unasked: %+v", got)
	}
	if text, err := json.Marshal(got); err != nil || !strings.Contains(string(text), `"problems":[]`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func TestStore_Verify_finds(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(f *fixture, m Manifest)
		content bool // it takes reading to find it
		kind    integrity.ProblemKind
		what    string
	}{
		"a blob that is cut short": {func(f *fixture, m Manifest) { f.truncate(layerOf(m), 3) }, false, integrity.ProblemBlob, "has 3 bytes, not 12"},
		"a blob that is missing":   {func(f *fixture, m Manifest) { f.must(os.Remove(f.path(layerOf(m)))) }, false, integrity.ProblemBlob, "is missing"},
		"a flipped bit":            {func(f *fixture, m Manifest) { f.flip(layerOf(m)) }, true, integrity.ProblemBlob, "hashes to sha256:"},
		"a bad sector":             {func(f *fixture, m Manifest) { f.unreadable(layerOf(m)) }, false, integrity.ProblemBlob, "input/output error"},
		"a directory for a blob": {func(f *fixture, m Manifest) {
			f.must(os.Remove(f.path(layerOf(m))))
			f.must(os.Mkdir(f.path(layerOf(m)), 0o700))
		}, false, integrity.ProblemBlob, "is not a file"},
		"the name of a blob": {func(f *fixture, _ Manifest) {
			f.corrupt(`INSERT INTO blobs (digest, size, created) VALUES ('sha256:../../etc/passwd', 1, 0)`)
		}, false, integrity.ProblemBlob, "invalid digest"},
		"a body that changed": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE manifests SET body = ?, size = size + 1 WHERE digest = ?`, append(bytes.Clone(m.Body), ' '), m.Digest)
		}, false, integrity.ProblemManifest, "its body hashes to"},
		"a size": {func(f *fixture, m Manifest) { f.corrupt(`UPDATE manifests SET size = 1 WHERE digest = ?`, m.Digest) }, false, integrity.ProblemManifest, "its row says 1 bytes"},
		"a subject": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE manifests SET subject = 'sha256:1' WHERE digest = ?`, m.Digest)
		}, false, integrity.ProblemManifest, "its row has the subject"},
		"an artifact type": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE manifests SET artifact_type = 'x/y' WHERE digest = ?`, m.Digest)
		}, false, integrity.ProblemManifest, "its row has the artifact type"},
		"annotations": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE manifests SET annotations = '{"a":"b"}' WHERE digest = ?`, m.Digest)
		}, false, integrity.ProblemManifest, "its row has the annotations"},
		"a media type": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE manifests SET media_type = 'x/y' WHERE digest = ?`, m.Digest)
		}, false, integrity.ProblemManifest, "its body cannot be read"},
		"a reference that is gone": {func(f *fixture, m Manifest) {
			f.corrupt(`DELETE FROM manifest_refs WHERE manifest = ? AND kind = 'layer'`, m.Digest)
		}, false, integrity.ProblemManifest, "1 references are recorded"},
		"a reference that changed": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE manifest_refs SET elsewhere = 1 WHERE manifest = ? AND kind = 'layer'`, m.Digest)
		}, false, integrity.ProblemManifest, "reference 1 is recorded"},
		"a layer without a row": {func(f *fixture, m Manifest) {
			f.corrupt(`DELETE FROM blobs WHERE digest = ?`, layerOf(m))
			f.corrupt(`DELETE FROM repository_blobs WHERE digest = ?`, layerOf(m))
		}, false, integrity.ProblemManifest, "is not held"},
		"a manifest that no repository shows": {func(f *fixture, m Manifest) {
			f.must(f.Tags.Delete(f.ctx, "team/app", "v1"))
			f.must(f.Tags.Delete(f.ctx, "team/app", "latest"))
			f.corrupt(`DELETE FROM repository_manifests WHERE digest = ?`, m.Digest)
		}, false, integrity.ProblemManifest, "no repository has it"},
		"a tag without a manifest": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE tags SET digest = 'sha256:1' WHERE name = 'latest'`)
		}, false, integrity.ProblemTag, "its repository does not have"},
		"a link without a blob": {func(f *fixture, m Manifest) {
			f.corrupt(`UPDATE repository_blobs SET digest = 'sha256:1' WHERE digest = ?`, layerOf(m))
		}, false, integrity.ProblemDatabase, "name rows of blobs"},
		"an index of SQLite that lies": {func(f *fixture, _ Manifest) {
			f.corrupt(`PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = 'CREATE INDEX tags_by_digest ON tags (updated)' WHERE name = 'tags_by_digest'; PRAGMA writable_schema = 0`)
			f.reopen()
		}, false, integrity.ProblemDatabase, "tags_by_digest"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixtureWith(t, name)
			m := f.variety()
			c.damage(f, m)
			if got := f.verified(VerifyOptions{}); c.content != got.Clean() {
				t.Errorf("without content: %v", got.Problems)
			}
			got := f.verified(VerifyOptions{Content: true})
			var kinds []string
			for _, p := range got.Problems {
				if p.Kind == c.kind && strings.Contains(p.What, c.what) && p.Remedy != "" && p.Name != "" {
					return
				}
				kinds = append(kinds, p.String())
			}
			t.Errorf("no %s with %q among %q", c.kind, c.what, kinds)
		})
	}
}

// layerOf is the layer of an image of pushImage.
func layerOf(m Manifest) digest.Digest {
	var image ocispec.Manifest
	if err := json.Unmarshal(m.Body, &image); err != nil {
		panic(err)
	}
	return image.Layers[0].Digest
}

func TestStore_Verify_leftoversAreNoDamage(t *testing.T) {
	f := newFixture(t)
	f.variety()
	stray := digest.FromString("stray")
	f.must(os.MkdirAll(filepath.Dir(f.path(stray)), 0o750))
	f.must(os.WriteFile(f.path(stray), []byte("stray"), 0o600))
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	_, err = u.Write([]byte("half"))
	f.must(err)
	f.must(u.Close())
	f.clock.add(2 * 24 * time.Hour)
	got := f.verified(VerifyOptions{Content: true})
	if !got.Clean() || got.ExtraFiles != 1 || got.ExtraBytes != 5 || got.StaleUploads != 1 || got.StaleUploadBytes < 4 {
		t.Errorf("report %+v", got)
	}
}

// TestStore_Verify_pages has more of everything than a page, and more problems than are listed.
func TestStore_Verify_pages(t *testing.T) {
	f := newFixture(t)
	const n = 1100
	f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error {
		for i := range n {
			body := manifestOf(descriptor("x/y", fmt.Append(nil, "config ", i)))
			m, p, err := f.newManifest(body, "", "")
			if err == nil {
				err = insertManifest(f.ctx, tx, &m, p)
			}
			if err == nil {
				err = f.showManifest(f.ctx, tx, "many", &m, p, byPush, nil)
			}
			if err == nil {
				_, err = tx.Exec(`INSERT INTO blobs (digest, size, created) VALUES (?, 1, 0)`, digest.FromBytes(fmt.Append(nil, i)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	got := f.verified(VerifyOptions{})
	if got.Manifests != n || got.Blobs != n || len(got.Problems) != 1000 || got.MoreProblems != 2*n-1000 {
		t.Errorf("verified %d manifests and %d blobs; %d problems and %d more", got.Manifests, got.Blobs, len(got.Problems), got.MoreProblems)
	}
}

func TestStore_Verify_isStopped(t *testing.T) {
	f := newFixture(t)
	f.variety()
	for after := range 7 {
		ctx, cancel := context.WithCancel(f.ctx)
		calls := 0
		_, err := f.Integrity().Verify(ctx, VerifyOptions{Content: true, Progress: func(VerifyReport, StoreSize) {
			if calls++; calls > after {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped after %d calls: %v", after+1, err)
		}
	}
}
