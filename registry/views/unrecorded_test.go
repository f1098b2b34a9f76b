package views_test

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/registry/store"
)

// push puts an image of one repository into another, as a client does: no origin is recorded.
func (f *fixture) push(from, to string, d digest.Digest) {
	f.Helper()
	m, err := f.Manifests.Get(f.Context(), from, d)
	f.must(err)
	parsed, err := image.Parse(m.MediaType, m.Body)
	f.must(err)
	for _, r := range parsed.References {
		if r.Kind == image.Child {
			f.push(from, to, r.Digest)
		}
	}
	for _, b := range plan.NewManifest(m.Descriptor(), m.Body, parsed).Blobs {
		_, err := f.Blobs.Mount(f.Context(), to, from, b.Digest)
		f.must(err)
	}
	_, err = f.Manifests.Put(f.Context(), to, m.Body, store.PutOptions{MediaType: m.MediaType, Tags: []string{"t" + d.Encoded()}})
	f.must(err)
}

// Images that a client has pushed, or another program mirrored, are in a view where a mirror would have
// put them.
func TestViews_imagesWithoutOrigins(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	f.one()
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	repository, d := f.image("operators/sample-database-bundle", "v1.2.0")
	move := func(to string) {
		t.Helper()
		f.push(repository, to, d)
		f.must(f.Manifests.Delete(context.Background(), repository, d))
		repository = to
		f.one()
	}
	move("elsewhere/another-name")
	f.shows("views/db", "v1", "database stable:1.1.0")
	if reason := f.past()[0]; !strings.Contains(reason, "of sample-database.v1.2.0 image ") {
		t.Errorf("the reason is %s", reason)
	}
	move("by/hand/operators/sample-database-bundle")
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	if by := f.needed(f.wants("far/redhat/redhat-operator-index:v4.18"), repository, d.String()); !strings.HasPrefix(by, "view views/db:v1, which offers bundle sample-database.v1.2.0") {
		t.Errorf("it is needed by %q", by)
	}
	move("by-hand-operators-sample-database-bundle")
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")

	m, err := f.Manifests.Get(t.Context(), repository, d)
	f.must(err)
	const cached = "cache/operators/sample-database-bundle" // may be evicted again
	_, err = f.Manifests.PutPulled(t.Context(), cached, m.Body, store.PutOptions{MediaType: m.MediaType})
	f.must(err)
	if all, err := f.Manifests.Repositories(t.Context(), d); err != nil || len(all) != 1 || all[0] != repository {
		t.Errorf("it is in %v, %v", all, err)
	}
	f.must(f.Manifests.Delete(t.Context(), repository, d))
	f.one()
	f.shows("views/db", "v1", "database stable:1.1.0")
}
