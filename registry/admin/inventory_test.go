package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestClient_Inventory(t *testing.T) {
	f := serve(t)
	ctx, run := t.Context(), begin(t, f)
	manifest, body := manifestOf("config", "layer")
	for _, repo := range []string{"a/b", "c"} {
		put(t, run, repo, "config")
		put(t, run, repo, "layer")
		must(t, run.PutManifest(ctx, repo, manifest, body))
	}
	put(t, run, "a/b", "of no image")
	const tags = 7000 // more than one request lists
	named := map[string]digest.Digest{}
	for n := range tags {
		named[fmt.Sprintf("v%05d", n)] = manifest.Digest
	}
	must(t, run.Tag(ctx, map[string]map[string]digest.Digest{"a/b": named, "c": {"v1": manifest.Digest}}))

	var digests []digest.Digest
	var names []string
	list := func() {
		digests, names = nil, nil
		must(t, f.client.Inventory(ctx, func(part api.Inventory) {
			digests = append(digests, part.Digests...)
			for _, tag := range part.Tags {
				names = append(names, tag.Repository+":"+tag.Tag)
				if tag.Digest != manifest.Digest {
					t.Errorf("%+v", tag)
				}
			}
		}))
	}
	list()
	if len(digests)+len(names) > 0 {
		t.Errorf("before the commit there are %v, %v", digests, names)
	}
	must(t, run.Commit(ctx))
	list()
	want := []digest.Digest{blobOf("config").Digest, blobOf("layer").Digest}
	slices.Sort(want)
	if !slices.Equal(digests, want) {
		t.Errorf("the digests are %v, want %v", digests, want)
	}
	if len(names) != tags+1 || !slices.IsSorted(names) || names[tags] != "c:v1" || len(slices.Compact(names)) != len(names) {
		t.Errorf("%d tags, the first %s, the last %s", len(names), names[0], strings.Join(names[len(names)-2:], " "))
	}
}
