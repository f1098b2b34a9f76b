package images_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/images"
	"github.com/mirror-appliance/appliance/registry/store"
)

type fixture struct {
	*images.Images
	t   *testing.T
	ctx context.Context
}

func open(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "db"), Storage: filepath.Join(dir, "blobs")})
	f := &fixture{&images.Images{Store: s}, t, t.Context()}
	f.must(err)
	t.Cleanup(func() { f.must(s.Close()) })
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) blob(repo, mediaType, text string) ocispec.Descriptor {
	f.t.Helper()
	u, err := f.Store.Uploads.New(f.ctx, repo)
	f.must(err)
	_, err = u.ReadFrom(strings.NewReader(text))
	f.must(err)
	d := digest.FromString(text)
	_, err = u.Commit(f.ctx, d)
	f.must(err)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}
}

func (f *fixture) put(repo string, m any, tags ...string) ocispec.Descriptor {
	f.t.Helper()
	body, err := json.Marshal(m)
	f.must(err)
	stored, err := f.Store.Manifests.Put(f.ctx, repo, body, store.PutOptions{Tags: tags})
	f.must(err)
	return stored.Descriptor()
}

// image puts an image of some layers.
func (f *fixture) image(repo string, config any, artifactType string, layers []string, tags ...string) ocispec.Descriptor {
	f.t.Helper()
	text, err := json.Marshal(config)
	f.must(err)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: f.blob(repo, ocispec.MediaTypeImageConfig, string(text))}
	for _, l := range layers {
		m.Layers = append(m.Layers, f.blob(repo, ocispec.MediaTypeImageLayerGzip, l))
	}
	return f.put(repo, m, tags...)
}

// as returns a context of a user with grants.
func as(t *testing.T, role auth.Role, grants ...string) context.Context {
	t.Helper()
	return auth.Session{Identity: auth.Identity{Name: "someone", Role: role, Repositories: grants}}.With(t.Context())
}

func TestImages_Repositories(t *testing.T) {
	f := open(t)
	for n := range 5 {
		for _, team := range []string{"red", "blue"} {
			f.image(fmt.Sprintf("%s/app-%d", team, n), map[string]any{}, "", nil, "v1", "v2")
		}
	}
	list := func(ctx context.Context, q api.Page) string {
		t.Helper()
		page, err := f.Repositories(ctx, q)
		f.must(err)
		text := ""
		for _, r := range page.Repositories {
			text += fmt.Sprintf("%s %d ", r.Name, r.Tags)
		}
		if page.More {
			text += "more"
		}
		return strings.TrimSpace(text)
	}
	for _, tc := range []struct {
		ctx  context.Context
		q    api.Page
		want string
	}{
		{f.ctx, api.Page{Limit: 2, After: "blue/app-3"}, "blue/app-4 2 red/app-0 2 more"},
		{as(t, auth.Pull, "red/*"), api.Page{Limit: 2, After: "blue/app-3"}, "red/app-0 2 red/app-1 2 more"},
		{as(t, auth.Pull, "red/*"), api.Page{Limit: 2, After: "red/app-2"}, "red/app-3 2 red/app-4 2"},
		{as(t, auth.Pull, "red/*"), api.Page{Search: "app-3"}, "red/app-3 2"},
		{as(t, auth.Pull, "green/*"), api.Page{}, ""},
		{as(t, auth.Admin, "green/*"), api.Page{Search: "APP-3"}, "blue/app-3 2 red/app-3 2"},
	} {
		if got := list(tc.ctx, tc.q); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.q, got, tc.want)
		}
	}
}

func TestImages_Describe(t *testing.T) {
	f := open(t)
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Config: ocispec.ImageConfig{User: "1001", Env: []string{strings.Repeat("é", 5000)}},
		History: []ocispec.History{{CreatedBy: "ADD base"}, {CreatedBy: "ENV A=b", EmptyLayer: true}, {Comment: "built"}, {CreatedBy: "more than there are layers"}}}
	one := f.image("team/app", config, "", []string{"base", "own"}, "v1")
	f.image("team/app", map[string]any{"n": 2}, "", []string{"base"}, "v2")
	f.image("other/app", map[string]any{"n": 3}, "", []string{"base"}, "v1")
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}
	list := f.put("team/app", ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one, absent}}, "list")
	sbom := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/spdx+json", Config: f.blob("team/app", "application/vnd.oci.empty.v1+json", "{}"),
		Layers: []ocispec.Descriptor{f.blob("team/app", "application/spdx+json", "sbom")}, Subject: &one}
	f.put("team/app", sbom)
	f.image("team/app", map[string]any{"n": 4}, "", nil, strings.Replace(one.Digest.String(), ":", "-", 1)+".sig")

	a, err := f.Describe(f.ctx, api.Place{Repository: "team/app", Reference: "v1"})
	f.must(err)
	if a.Subject != "" || a.Digest != one.Digest || a.Tag != "v1" || a.Kind != api.KindImage || a.Size.Parts != 3 || len(a.Indexes) != 1 || a.Indexes[0] != list.Digest || len(a.Moves) != 1 {
		t.Errorf("the image is %+v", a)
	}
	if c := a.Config; c == nil || c.Platform != "linux/arm64/v8" || c.User != "1001" || len(c.Env[0]) > 4100 || !strings.HasSuffix(c.Env[0], "é…") {
		t.Errorf("the config is %+v", a.Config)
	}
	if a.Layers[0].Command != "ADD base" || a.Layers[1].Command != "built" || a.Layers[0].Shared != 2 || a.Layers[1].Shared != 0 || !a.Layers[1].Held {
		t.Errorf("the layers are %+v", a.Layers)
	}
	if len(a.Referrers) != 2 || a.Referrers[0].Kind != api.KindSBOM || a.Referrers[0].Tag != "" || a.Referrers[1].Kind != api.KindSignature || !strings.HasSuffix(a.Referrers[1].Tag, ".sig") {
		t.Errorf("attached are %+v", a.Referrers)
	}
	if signature, err := f.Describe(f.ctx, api.Place{Repository: "team/app", Reference: a.Referrers[1].Tag}); err != nil || signature.Subject != one.Digest {
		t.Errorf("the signature is attached to %q, %v", signature.Subject, err)
	}
	a, err = f.Describe(as(t, auth.Pull, "team/*"), api.Place{Repository: "team/app", Reference: one.Digest.String()})
	f.must(err)
	if a.Layers[0].Shared != 1 || a.Tag != "" || a.Moves != nil {
		t.Errorf("a user who sees one repository is told of %d images that share a layer: %+v", a.Layers[0].Shared, a)
	}
	if a, err = f.Describe(f.ctx, api.Place{Repository: "team/app", Reference: "list"}); err != nil || len(a.Platforms) != 2 || !a.Platforms[0].Held || a.Platforms[1].Held ||
		a.Platforms[1].Platform != "linux/s390x" || a.Platforms[0].Size.Parts != 3 || a.Config != nil || a.Kind != api.KindIndex || len(a.Indexes) > 0 {
		t.Errorf("the index is %+v, %v", a, err)
	}
	if _, err := f.Describe(as(t, auth.Pull, "other/*"), api.Place{Repository: "team/app", Reference: "v1"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an image that the user may not see: %v", err)
	}
	if _, err := f.Tags(as(t, auth.Pull, "other/*"), api.TagsRequest{Repository: "team/app"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("tags that the user may not see: %v", err)
	}
	for _, at := range []api.Place{{Repository: "team/app", Reference: "none"}, {Repository: "team/app", Reference: "../x"}, {Repository: "none", Reference: "v1"}} {
		if _, err := f.Describe(f.ctx, at); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: %v", at, err)
		}
	}
}

// The lists of a description are cut: thousands of indexes may have an image, and thousands of clusters may need it.
func TestImages_longLists(t *testing.T) {
	f := open(t)
	one := f.image("team/app", map[string]any{}, "", []string{"layer"}, "v1")
	for n := range 201 {
		f.put("team/app", ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
			Manifests: []ocispec.Descriptor{one}, Annotations: map[string]string{"n": fmt.Sprint(n)}})
		id := fmt.Sprintf("cluster-%03d", n)
		f.must(f.Store.Clusters.Put(f.ctx, store.Cluster{ID: id, Facts: json.RawMessage("{}")}))
		f.must(f.Store.Clusters.Keep(f.ctx, id, []digest.Digest{one.Digest}))
	}
	a, err := f.Describe(f.ctx, api.Place{Repository: "team/app", Reference: "v1"})
	if err != nil || len(a.Indexes) != 200 || len(a.Clusters) != 200 {
		t.Errorf("%d indexes, %d clusters, %v", len(a.Indexes), len(a.Clusters), err)
	}
}

// A config that is no JSON, or too large, does not hide the rest of its image.
func TestImages_badConfig(t *testing.T) {
	f := open(t)
	f.image("team/app", "not an object", "", []string{"layer"}, "v1")
	f.image("team/app", map[string]string{"x": strings.Repeat("x", 5<<20)}, "", []string{"layer"}, "v2")
	for tag, want := range map[string]string{"v1": "cannot unmarshal", "v2": "more than 4194304"} {
		a, err := f.Describe(f.ctx, api.Place{Repository: "team/app", Reference: tag})
		if err != nil || len(a.Layers) != 1 || !strings.Contains(a.ConfigProblem, want) {
			t.Errorf("%s: %+v, %v", tag, a, err)
		}
	}
}

func TestImages_kinds(t *testing.T) {
	f := open(t)
	for artifactType, want := range map[string]string{
		"": api.KindImage, "application/vnd.cncf.helm.config.v1+json": api.KindChart, "application/spdx+json": api.KindSBOM, "application/vnd.cyclonedx+json": api.KindSBOM,
		"application/vnd.in-toto+json": api.KindAttestation, "application/vnd.cncf.notary.signature": api.KindSignature, "application/vnd.dev.cosign.artifact.sig.v1+json": api.KindSignature,
		"application/vnd.example": api.KindArtifact,
	} {
		f.image("team/app", map[string]string{"of": artifactType}, artifactType, nil, "v1")
		page, err := f.Tags(f.ctx, api.TagsRequest{Repository: "team/app"})
		f.must(err)
		if page.Tags[0].Kind != want {
			t.Errorf("%q is %s, want %s", artifactType, page.Tags[0].Kind, want)
		}
	}
	x := strings.Repeat("a", 64)
	for tag, want := range map[string]string{"sha256-" + x: api.KindReferrers, "sha256-" + x + ".att": api.KindAttestation, "sha256-" + x + ".sbom": api.KindSBOM, "sha256-x.sig": api.KindImage} {
		f.image("team/tags", map[string]string{}, "", nil, tag)
		page, err := f.Tags(f.ctx, api.TagsRequest{Repository: "team/tags", Page: api.Page{Search: tag, Limit: 1}})
		f.must(err)
		if page.Tags[0].Kind != want {
			t.Errorf("%s is %s, want %s", tag, page.Tags[0].Kind, want)
		}
	}
}

// Of many tags the first are listed, and how many there are.
func TestImages_manyTags(t *testing.T) {
	f := open(t)
	var tags []string
	for n := range 203 {
		tags = append(tags, fmt.Sprintf("v%03d", n))
	}
	f.image("team/app", map[string]any{}, "", []string{"layer"}, tags...)
	at := api.Place{Repository: "team/app", Reference: "v001"}
	a, err := f.Describe(f.ctx, at)
	f.must(err)
	plan, err := f.PlanDelete(f.ctx, at)
	f.must(err)
	if len(a.Tags) != 200 || a.AllTags != 203 || len(plan.OtherTags) != 200 || plan.AllOtherTags != 202 {
		t.Errorf("%d of %d tags, %d of %d others", len(a.Tags), a.AllTags, len(plan.OtherTags), plan.AllOtherTags)
	}
}

// A mirror tags an image that it has by digest as sha256-DIGEST. Such a tag is an image, not a list of attachments.
func TestImages_mirroredByDigest(t *testing.T) {
	f := open(t)
	one := f.image("team/app", map[string]any{}, "", []string{"layer"})
	all := f.put("team/app", ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one}})
	for d, want := range map[digest.Digest]string{one.Digest: api.KindImage, all.Digest: api.KindIndex} {
		tag := "sha256-" + d.Encoded()
		m, err := f.Store.Manifests.Get(f.ctx, "team/app", d)
		f.must(err)
		f.put("team/app", json.RawMessage(m.Body), tag)
		page, err := f.Tags(f.ctx, api.TagsRequest{Repository: "team/app", Page: api.Page{Search: tag}})
		f.must(err)
		a, err := f.Describe(f.ctx, api.Place{Repository: "team/app", Reference: tag})
		f.must(err)
		plan, err := f.PlanDelete(f.ctx, api.Place{Repository: "team/app", Reference: d.String()})
		f.must(err)
		if page.Tags[0].Kind != want || a.Kind != want || a.Subject != "" || plan.Images[0].Kind != want {
			t.Errorf("%s is %s, %s attached to %q, and deleted as %s, want %s", tag, page.Tags[0].Kind, a.Kind, a.Subject, plan.Images[0].Kind, want)
		}
	}
}

// A delete is for the user's own repositories, those that are open to everyone to pull not among them.
func TestImages_Delete(t *testing.T) {
	f := open(t)
	one := f.image("team/app", map[string]any{}, "", []string{"layer"}, "v1")
	f.image("other/app", map[string]any{}, "", []string{"layer"}, "v1")
	removed := ""
	f.Remove = func(_ *http.Request, repo, ref string) error { removed = repo + " " + ref; return nil }
	r := httptest.NewRequest("POST", "/", nil)
	for _, repo := range []string{"other/app", "none"} {
		at := api.Place{Repository: repo, Reference: "v1"}
		ctx := as(t, auth.Push, "team/*")
		if err := f.Delete(r.WithContext(ctx), at); !errors.Is(err, store.ErrNotFound) || removed != "" {
			t.Errorf("%s: %v", repo, err)
		}
		if _, err := f.PlanDelete(ctx, at); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the plan for %s: %v", repo, err)
		}
	}
	if err := f.Delete(r.WithContext(as(t, auth.Push, "team/*")), api.Place{Repository: "team/app", Reference: "v1"}); err != nil || removed != "team/app v1" {
		t.Errorf("it has deleted %q: %v", removed, err)
	}
	for grants, want := range map[string]string{"team/*": "", "*": "other/app"} {
		plan, err := f.PlanDelete(as(t, auth.Push, grants), api.Place{Repository: "team/app", Reference: one.Digest.String()})
		if err != nil || strings.Join(plan.Repositories, " ") != want || plan.AllTags != 1 || plan.Images[0].Digest != one.Digest {
			t.Errorf("for %s the plan is %+v, %v", grants, plan, err)
		}
	}
}

// The bytes of a plan tell a user with grants nothing of the repositories of others: neither that they have
// the image or a layer of it, nor that they have a layer which the image only names.
func TestImages_PlanDelete_ofOthers(t *testing.T) {
	f := open(t)
	foreign := ocispec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromString("elsewhere"),
		Size: int64(len("elsewhere")), URLs: []string{"https://example.com/layer"}}
	one := f.put("team/app", ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: f.blob("team/app", ocispec.MediaTypeImageConfig, "{}"),
		Layers: []ocispec.Descriptor{f.blob("team/app", ocispec.MediaTypeImageLayerGzip, "own"), f.blob("team/app", ocispec.MediaTypeImageLayerGzip, "shared"), foreign}}, "v1")
	f.image("team/app", map[string]any{"author": "b"}, "", []string{"shared"}, "v2")
	plan := func(grants string) api.Deletion {
		t.Helper()
		d, err := f.PlanDelete(as(t, auth.Push, grants), api.Place{Repository: "team/app", Reference: one.Digest.String()})
		f.must(err)
		return d
	}
	before := plan("team/*")
	if before.Blobs != 2 || before.Bytes != int64(len("{}own")) || before.SharedBytes != int64(len("shared")) || !before.Within {
		t.Errorf("the plan is %+v", before)
	}
	f.image("other/app", map[string]any{}, "", []string{"own", "elsewhere"}, "v1")
	if after := plan("team/*"); after.Blobs != before.Blobs || after.Bytes != before.Bytes || after.SharedBytes != before.SharedBytes {
		t.Errorf("with an image in a repository that the user may not see the plan is %+v, before it was %+v", after, before)
	}
	if all := plan("*"); all.Blobs != 0 || all.Bytes != 0 || all.Within {
		t.Errorf("for a user without grants the plan is %+v", all)
	}
}
