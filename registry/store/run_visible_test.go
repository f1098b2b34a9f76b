package store

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A run brings what a source says, which may name anything.
func TestRun_Commit_shows(t *testing.T) {
	f := newFixture(t)
	secret, config := f.blob("secret", "what others may not read"), f.blob("mirror", "a config that is there already")
	foreign := secret
	foreign.URLs = []string{"https://elsewhere.test/layer"}
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	for _, m := range []struct {
		mediaType string
		body      []byte
	}{
		{ocispec.MediaTypeImageIndex, index(secret)},
		{ocispec.MediaTypeImageManifest, manifestOf(config, foreign)},
	} {
		f.must(run.PutManifest(f.ctx, "mirror", descriptor(m.mediaType, m.body), m.body))
	}
	f.must(run.Commit(f.ctx))
	if _, err := f.Blobs.Stat(f.ctx, "mirror", secret.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("a blob that is only named is shown: %v", err)
	}
	if _, err := f.Blobs.Stat(f.ctx, "mirror", config.Digest); err != nil {
		t.Errorf("a blob that was visible there before: %v", err)
	}
}

// A source that knows a digest has no right to what another repository has under it: neither to its
// bytes nor to what manifests say.
func TestRun_anotherRepositorysContent(t *testing.T) {
	f := newFixture(t)
	private := f.pushImage("team/private", "private", "v1")
	config, layer := digest.FromString(`{"config of":"private"}`), layerOf(private)
	sizes := map[digest.Digest]int64{config: int64(len(f.read("team/private", config))), layer: int64(len(f.read("team/private", layer)))}
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	before, err := f.Runs.Begin(f.ctx, "sync of another repository")
	f.must(err)
	held := func(blobs []digest.Digest, unconfirmed []digest.Digest) {
		t.Helper()
		gotBlobs, gotManifests, gotUnconfirmed, err := run.Existing(f.ctx, map[string][]digest.Digest{"mirror/evil": {config, layer, dA}},
			map[string][]digest.Digest{"mirror/evil": {private.Digest}})
		f.must(err)
		if !slices.Equal(gotBlobs["mirror/evil"], blobs) || !slices.Equal(gotUnconfirmed["mirror/evil"], unconfirmed) || len(gotManifests) != 0 {
			t.Errorf("held are %v and %v, unconfirmed %v", gotBlobs, gotManifests, gotUnconfirmed)
		}
	}
	missing := func(r *Run, ds ...digest.Digest) {
		t.Helper()
		var missing *MissingError
		err := r.PutManifest(f.ctx, "mirror/evil", private.Descriptor(), private.Body)
		if !errors.As(err, &missing) || !slices.Equal(missing.Digests, ds) {
			t.Errorf("the manifest: %v", err)
		}
	}
	confirm := func(d digest.Digest, size int64, want bool) {
		t.Helper()
		staged, err := run.Confirm(f.ctx, map[string][]ocispec.Descriptor{"mirror/evil": {{Digest: d, Size: size}}})
		f.must(err)
		if slices.Contains(staged["mirror/evil"], d) != want {
			t.Errorf("of %d bytes %s is staged: %v", size, d, staged)
		}
	}
	held(nil, []digest.Digest{config, layer})
	missing(run, config, layer)

	// A manifest that has all it needs, for instance since it needs nothing, is another
	// repository's all the same.
	alone, err := f.Manifests.Put(f.ctx, "team/private", index(), PutOptions{})
	f.must(err)
	if has, err := hasManifest(f.ctx, run, "mirror/evil", alone.Digest); has || err != nil {
		t.Errorf("a manifest of another repository is held: %v, %v", has, err)
	}

	// What the run has for one repository, or another run for this one, is no other's.
	_, _, _, err = run.Existing(f.ctx, map[string][]digest.Digest{"team/private": {config, layer}}, map[string][]digest.Digest{"team/private": {private.Digest}})
	f.must(err)
	f.must(before.PutBlob(f.ctx, "mirror/evil", descriptor("x/y", []byte(f.read("team/private", layer))), strings.NewReader(f.read("team/private", layer))))
	held(nil, []digest.Digest{config, layer})
	missing(run, config, layer)
	isNotFound(t, run.Tag(f.ctx, tagged("mirror/evil", "v1", private.Digest)))

	confirm(layer, sizes[layer]+1, false)
	confirm(dA, 5, false)
	held(nil, []digest.Digest{config, layer})
	confirm(config, sizes[config], true)
	missing(run, layer)
	f.must(run.Commit(f.ctx))
	if got := f.read("mirror/evil", config); int64(len(got)) != sizes[config] {
		t.Errorf("what was confirmed is %q", got)
	}
	_, err = f.Blobs.Stat(f.ctx, "mirror/evil", layer)
	isNotFound(t, err)
	for _, d := range []digest.Digest{private.Digest, alone.Digest} {
		_, err = f.Manifests.Get(f.ctx, "mirror/evil", d)
		isNotFound(t, err)
	}
}

// What pull-through only has the name of stays so when a run finds the image there.
func TestRun_Existing_pulledManifestThatNamesAnothersBlob(t *testing.T) {
	f := newFixture(t)
	secret := f.blob("team/private", "what others may not read")
	body := manifestOf(secret)
	m, err := f.Manifests.PutPulled(f.ctx, "hub/evil", body, PutOptions{Tags: []string{"v1"}})
	f.must(err)
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	if has, err := hasManifest(f.ctx, run, "hub/evil", m.Digest); has || err != nil {
		t.Errorf("it is held: %v, %v", has, err)
	}
	f.must(run.Tag(f.ctx, tagged("hub/evil", "v1", m.Digest)))
	f.must(run.Commit(f.ctx))
	_, err = f.Blobs.Stat(f.ctx, "hub/evil", secret.Digest)
	isNotFound(t, err)
}

// A blob that was confirmed is kept as one that was put: over a restart, and when its
// own repository is gone.
func TestRun_Confirm_keepsTheBlob(t *testing.T) {
	f := newFixture(t)
	layer := f.blob("other", "layer")
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	staged, err := run.Confirm(f.ctx, map[string][]ocispec.Descriptor{"mirror": {layer}})
	f.must(err)
	if !slices.Equal(staged["mirror"], []digest.Digest{layer.Digest}) {
		t.Errorf("staged are %v", staged)
	}
	f.reopen()
	run, err = f.Runs.Get(f.ctx, run.ID())
	f.must(err)
	f.must(f.Blobs.Delete(f.ctx, "other", layer.Digest))
	f.clock.add(time.Hour)
	if n, _, err := f.Garbage.RemoveBlobs(f.ctx, f.clock.now(), []digest.Digest{layer.Digest}); n != 0 || err != nil {
		t.Errorf("collection removes %d, %v", n, err)
	}
	body := manifestOf(layer)
	f.must(run.PutManifest(f.ctx, "mirror", descriptor(ocispec.MediaTypeImageManifest, body), body))
	f.must(run.Commit(f.ctx))
	if got := f.read("mirror", layer.Digest); got != "layer" {
		t.Errorf("read %q", got)
	}
}

// A blob that was collected after its source was asked is put again.
func TestRun_Confirm_collectedMeanwhile(t *testing.T) {
	f := newFixture(t)
	layer := f.blob("other", "layer")
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	f.must(f.Blobs.Delete(f.ctx, "other", layer.Digest))
	f.must(f.touch(layer.Digest, f.clock.now()))
	f.later()
	if n, _, err := f.Garbage.RemoveBlobs(f.ctx, f.clock.now(), []digest.Digest{layer.Digest}); n != 1 || err != nil {
		t.Fatalf("collection removes %d, %v", n, err)
	}
	staged, err := run.Confirm(f.ctx, map[string][]ocispec.Descriptor{"mirror": {layer}})
	if len(staged) != 0 || err != nil {
		t.Errorf("staged are %v, %v", staged, err)
	}
}

func TestRun_Confirm_Refusals(t *testing.T) {
	f := newFixture(t)
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	var invalid *InvalidError
	for repo, d := range map[string]digest.Digest{"A": dA, "app": "sha256:x"} {
		if _, err := run.Confirm(f.ctx, map[string][]ocispec.Descriptor{repo: {{Digest: d}}}); !errors.As(err, &invalid) {
			t.Errorf("%s of %s: %v", d, repo, err)
		}
	}
	f.must(run.Commit(f.ctx))
	layer := f.blob("other", "layer")
	if _, err := run.Confirm(f.ctx, map[string][]ocispec.Descriptor{"mirror": {layer}}); !errors.As(err, &invalid) {
		t.Errorf("a committed run: %v", err)
	}
}

// A sync that is told that a blob is there does not send it, and what is not there is never mended.
func TestRun_blobThatIsLostOrShort(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, d digest.Digest){
		"lost":  func(f *fixture, d digest.Digest) { f.must(os.Remove(f.path(d))) },
		"short": func(f *fixture, d digest.Digest) { f.truncate(d, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			m := f.pushImage("app", "app", "v1")
			layer := layerOf(m)
			damage(f, layer)
			run, err := f.Runs.Begin(f.ctx, "sync")
			f.must(err)
			ask := map[string][]digest.Digest{"app": {layer}, "other": {layer}}
			blobs, manifests, unconfirmed, err := run.Existing(f.ctx, ask, map[string][]digest.Digest{"app": {m.Digest}})
			if len(blobs)+len(manifests)+len(unconfirmed) != 0 || err != nil {
				t.Errorf("held are %v and %v, unconfirmed %v, %v", blobs, manifests, unconfirmed, err)
			}
			size := int64(len("layer of app"))
			staged, err := run.Confirm(f.ctx, map[string][]ocispec.Descriptor{"other": {{Digest: layer, Size: size}}})
			if len(staged) != 0 || err != nil {
				t.Errorf("staged are %v, %v", staged, err)
			}
			f.must(run.PutBlob(f.ctx, "app", ocispec.Descriptor{Digest: layer, Size: size}, strings.NewReader("layer of app")))
			blobs, manifests, unconfirmed, err = run.Existing(f.ctx, ask, map[string][]digest.Digest{"app": {m.Digest}})
			if len(blobs["app"]) != 1 || len(manifests["app"]) != 1 || len(unconfirmed["other"]) != 1 || err != nil {
				t.Errorf("put again, held are %v and %v, unconfirmed %v, %v", blobs, manifests, unconfirmed, err)
			}
			f.must(run.Commit(f.ctx))
			f.mustHave("app", "v1")
		})
	}
}
