package store

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// signed pushes, or has pulled through, a manifest that refers to another by subject, if there
// is one, and gets tags.
func (f *fixture) signed(repo, name string, by origin, subject *Manifest, tags ...string) Manifest {
	f.t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "x/y", Config: f.blob(repo, "{}"),
		Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"name": name}}
	if subject != nil {
		d := subject.Descriptor()
		m.Subject = &d
	}
	put := f.Manifests.Put
	if by == byPull {
		put = f.Manifests.PutPulled
	}
	held, err := put(f.ctx, repo, mustJSON(m), PutOptions{Tags: tags})
	f.must(err)
	return held
}

func (f *fixture) holds(repo string, m Manifest) bool {
	f.t.Helper()
	_, err := f.Manifests.Get(f.ctx, repo, m.Digest)
	if err != nil {
		isNotFound(f.t, err)
	}
	return err == nil
}

// mustHold checks which of some manifests a repository holds.
func (f *fixture) mustHold(when, repo string, want bool, named map[string]Manifest) {
	f.t.Helper()
	for name, m := range named {
		if f.holds(repo, m) != want {
			f.t.Errorf("%s: the %s is held: %t", when, name, !want)
		}
	}
}

// What refers to an image goes with the image, and not with an index that lists it.
func TestStore_DeleteManifest_leavesReferrersToTheirSubject(t *testing.T) {
	for _, whole := range []bool{false, true} {
		f := newFixture(t)
		remove := func(m Manifest) {
			t.Helper()
			if !whole {
				f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
				return
			}
			_, err := f.Manifests.DeleteImage(f.ctx, "app", m.Digest)
			f.must(err)
		}
		img := f.pushImage("app", "app", "v1")
		signature := f.signed("app", "signature", byPush, &img)
		list, err := f.Manifests.Put(f.ctx, "app", index(signature.Descriptor()), PutOptions{Tags: []string{"list"}})
		f.must(err)
		remove(list)
		if !f.holds("app", signature) {
			t.Error("the signature of a held image went with an index that listed it")
		}
		remove(img)
		if f.holds("app", signature) == whole {
			t.Errorf("with what belongs to it %t: the signature is held: %t", whole, !whole)
		}

		// With image and signature in one index, both go, in whichever order they are listed.
		img = f.pushImage("app", "other")
		signature = f.signed("app", "signature of other", byPush, &img)
		both, err := f.Manifests.Put(f.ctx, "app", index(signature.Descriptor(), img.Descriptor()), PutOptions{})
		f.must(err)
		remove(both)
		f.mustHold("after an index of both", "app", false, map[string]Manifest{"image": img, "signature": signature})
	}
}

func TestStore_DeleteImage_takesWhatBelongsToIt(t *testing.T) {
	f := newFixture(t)
	img := f.pushImage("app", "app", "v1")
	base := "sha256-" + img.Digest.Encoded()
	sbom := f.signed("app", "sbom", byPush, &img)
	gone := map[string]Manifest{
		"image": img, "sbom": sbom,
		"signature of the sbom": f.signed("app", "of the sbom", byPush, &sbom),
		"cosign signature":      f.signed("app", "cosign", byPush, nil, base+".sig"),
		"attestation":           f.signed("app", "attestation", byPush, nil, base+".att"),
		"cosign sbom":           f.signed("app", "cosign sbom", byPush, nil, base+".sbom", "also-tagged"),
		"index of referrers":    f.signed("app", "index", byPush, nil, base),
	}
	kept := map[string]Manifest{
		"early signature": f.signed("app", "early", byPush, nil, "sha256-"+dA.Encoded()+".sig"),
		"other suffix":    f.signed("app", "suffix", byPush, nil, base+".other"),
	}
	got, err := f.Manifests.DeleteImage(f.ctx, "app", img.Digest)
	f.must(err)
	f.mustHold("after the image", "app", false, gone)
	f.mustHold("after the image", "app", true, kept)
	if len(got) != len(gone) || !slices.Contains(got, sbom.Digest) {
		t.Errorf("told of %v", got)
	}
	_, err = f.Manifests.DeleteImage(f.ctx, "app", img.Digest)
	isNotFound(t, err)
	f.mustBeClean()
}

// The tag of a sha512 has half of its digest.
func TestStore_DeleteImage_knowsTheTagOfASHA512(t *testing.T) {
	f := newFixture(t)
	config := f.blob("app", "{}")
	body := manifestOf(config)
	d := digest.SHA512.FromBytes(body)
	img, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{Digest: d})
	f.must(err)
	signature := f.signed("app", "cosign", byPush, nil, "sha512-"+d.Encoded()[:64]+".sig")
	list, err := f.Manifests.Put(f.ctx, "app", index(signature.Descriptor()), PutOptions{})
	f.must(err)
	f.must(f.Manifests.Delete(f.ctx, "app", list.Digest))
	f.mustHold("after the index", "app", true, map[string]Manifest{"signature": signature})
	_, err = f.Manifests.DeleteImage(f.ctx, "app", img.Digest)
	f.must(err)
	f.mustHold("after the image", "app", false, map[string]Manifest{"signature": signature})
}

// Eviction knows the same of what belongs to what.
func TestStore_EvictPulled_takesWhatBelongsToAnImageWithIt(t *testing.T) {
	evict := func(f *fixture) {
		t.Helper()
		_, _, err := f.Garbage.EvictPulled(f.ctx, 0)
		f.must(err)
	}
	pulled := func(f *fixture) (img Manifest, belonging map[string]Manifest) {
		t.Helper()
		img, err := f.Manifests.PutPulled(f.ctx, "hub", manifestOf(f.blob("hub", "config")), PutOptions{Tags: []string{"v1"}})
		f.must(err)
		base := "sha256-" + img.Digest.Encoded()
		sbom := f.signed("hub", "sbom", byPull, &img)
		return img, map[string]Manifest{
			"sbom": sbom, "signature of the sbom": f.signed("hub", "of the sbom", byPull, &sbom),
			"cosign signature": f.signed("hub", "cosign", byPull, nil, base+".sig"),
		}
	}
	t.Run("all of it was pulled", func(t *testing.T) {
		f := newFixture(t)
		img, belonging := pulled(f)
		belonging["image"] = img
		evict(f)
		f.mustHold("after eviction", "hub", false, belonging)
	})
	t.Run("the image was pushed as well", func(t *testing.T) {
		f := newFixture(t)
		img, belonging := pulled(f)
		_, err := f.Manifests.Put(f.ctx, "hub", img.Body, PutOptions{})
		f.must(err)
		belonging["image"] = img
		evict(f)
		f.mustHold("after eviction", "hub", true, belonging)
	})
	t.Run("a signature by tag was pushed", func(t *testing.T) {
		f := newFixture(t)
		img, _ := pulled(f)
		f.signed("hub", "pushed", byPush, nil, "sha256-"+img.Digest.Encoded()+".att")
		evict(f)
		f.mustHold("after eviction", "hub", true, map[string]Manifest{"image": img})
	})
}
