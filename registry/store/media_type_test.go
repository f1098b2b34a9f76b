package store

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
)

const acme = "application/vnd.acme.collection.v1+json"

// mustBe checks what a manifest of a repository is, in each way to read it.
func (f *fixture) mustBe(repo, tag string, d digest.Digest, mediaType string) {
	f.t.Helper()
	byDigest, err := f.Manifests.Get(f.ctx, repo, d)
	f.must(err)
	byTag, err := f.Manifests.ByTag(f.ctx, repo, tag)
	f.must(err)
	if byDigest.MediaType != mediaType || byTag.MediaType != mediaType || byTag.Descriptor().MediaType != mediaType {
		f.t.Errorf("%s: it is %s, and %s by its tag; want %s", repo, byDigest.MediaType, byTag.MediaType, mediaType)
	}
}

// Bytes that name no media type are what each repository declared them as.
func TestStore_MediaType_isThatOfTheLink(t *testing.T) {
	f := newFixture(t)
	body := mustJSON(map[string]any{"schemaVersion": 2, "manifests": []any{}})
	d := digest.FromBytes(body)
	put := func(repo, mediaType string) {
		t.Helper()
		m, err := f.Manifests.Put(f.ctx, repo, body, PutOptions{MediaType: mediaType, Tags: []string{"t"}})
		f.must(err)
		if m.MediaType != mediaType {
			t.Errorf("%s: it was said to be %s", repo, m.MediaType)
		}
	}
	put("b/y", acme)
	put("a/y", image.MediaTypeDockerList)
	f.mustBe("b/y", "t", d, acme)
	f.mustBe("a/y", "t", d, image.MediaTypeDockerList)

	t.Run("by pull-through, which does not change what was pushed", func(t *testing.T) {
		for repo, want := range map[string]string{"hub/y": ocispec.MediaTypeImageIndex, "b/y": acme} {
			m, err := f.Manifests.PutPulled(f.ctx, repo, body, PutOptions{MediaType: ocispec.MediaTypeImageIndex, Tags: []string{"t"}})
			f.must(err)
			if m.MediaType != want {
				t.Errorf("%s: it was said to be %s", repo, m.MediaType)
			}
			f.mustBe(repo, "t", d, want)
		}
	})
	t.Run("by a run", func(t *testing.T) {
		r, err := f.Runs.Begin(f.ctx, "run")
		f.must(err)
		held, err := hasManifest(f.ctx, r, "mirror/y", d)
		f.must(err)
		if held {
			t.Error("what others declared it as counts for the run")
		}
		f.must(r.PutManifest(f.ctx, "mirror/y", descriptor(ocispec.MediaTypeImageIndex, body), body))
		held, err = hasManifest(f.ctx, r, "b/y", d)
		f.must(err)
		if !held {
			t.Error("it is not held where it is")
		}
		f.must(r.Tag(f.ctx, tagged("mirror/y", "t", d)))
		f.must(r.Commit(f.ctx))
		f.mustBe("mirror/y", "t", d, ocispec.MediaTypeImageIndex)
		f.mustBe("b/y", "t", d, acme)
		f.mustBe("a/y", "t", d, image.MediaTypeDockerList)
	})
	f.mustBeClean()
}

// undoFollowers undoes migration 14. The triggers of other tables that are dropped go with these.
const undoFollowers = `DROP TRIGGER tag_came; DROP TRIGGER tag_moved; DROP TRIGGER tag_went; DROP TRIGGER manifest_came;
	DROP TRIGGER manifest_changed; DROP TRIGGER manifest_went; DROP TRIGGER blob_pulled; DROP TRIGGER blob_pulled_later; DROP TRIGGER blob_mended;
	DROP TRIGGER user_came; DROP TRIGGER user_changed; DROP TRIGGER user_went; DROP TRIGGER wants_came; DROP TRIGGER wants_changed; DROP TRIGGER wants_went;
	DROP VIEW changing; DROP TABLE followers; DROP TABLE feed; DROP TABLE changes; DROP TABLE following; DROP TABLE followed;`

// An older store has one media type for all. It becomes that of each link.
func TestOpen_migratesMediaTypesAndLinks_SQLite(t *testing.T) {
	f := newFixture(t)
	named := f.pushImage("app", "app", "v1")
	body := mustJSON(map[string]any{"schemaVersion": 2, "manifests": []any{}})
	m, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{MediaType: acme, Tags: []string{"t"}})
	f.must(err)
	pulled := manifestOf(descriptor("x/y", []byte("another's")))
	f.blob("team", "another's")
	_, err = f.Manifests.PutPulled(f.ctx, "hub", pulled, PutOptions{})
	f.must(err)
	f.corrupt(`UPDATE manifests SET media_type = (SELECT media_type FROM repository_manifests WHERE digest = ?1) WHERE digest = ?1`, m.Digest)
	f.corrupt(`DELETE FROM repository_blobs WHERE digest = ?`, layerOf(named)) // deleted, as a client could
	f.exec(`ALTER TABLE repository_manifests DROP COLUMN media_type;
		ALTER TABLE run_manifests DROP COLUMN media_type;
		` + undoFollowers + `
		DROP INDEX tags_by_digest; CREATE INDEX tags_by_manifest ON tags (repository, digest); DROP TABLE audit; DROP TABLE cluster_manifests; DROP TABLE clusters; DROP TABLE removals; DROP TABLE origins; DROP TABLE run_origins; DROP TABLE blob_journal; DROP INDEX repository_manifests_pinned; DROP INDEX repository_blobs_pulled; ALTER TABLE repository_blobs DROP COLUMN pulled; PRAGMA user_version = 4`)
	f.reopen()
	f.mustBe("app", "t", m.Digest, acme)
	f.mustBe("app", "v1", named.Digest, ocispec.MediaTypeImageManifest)
	f.mustHave("app", "v1")
	_, err = f.Blobs.Stat(f.ctx, "hub", digest.FromBytes([]byte("another's")))
	isNotFound(t, err)
	f.mustBeClean()
}

// What a run has staged comes back to its repository when it went to quarantine before the commit.
func TestRun_Commit_linksWhatIsInQuarantine(t *testing.T) {
	f := newFixture(t)
	config, layer := []byte("{}"), []byte("layer")
	body := manifestOf(descriptor("x/y", config), descriptor("x/y", layer))
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	for _, b := range [][]byte{config, layer} {
		f.must(r.PutBlob(f.ctx, "app", descriptor("x/y", b), bytes.NewReader(b)))
	}
	f.must(r.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageManifest, body), body))
	f.truncate(digest.FromBytes(layer), 2)
	_, err = f.Integrity().ScrubBlob(f.ctx, digest.FromBytes(layer), throttle.New(0))
	f.must(err)
	f.must(r.Commit(f.ctx))
	f.blob("other", "layer")
	if got := f.read("app", digest.FromBytes(layer)); got != "layer" {
		t.Errorf("read %q", got)
	}
}
