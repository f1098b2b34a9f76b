package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

func TestStore_Find(t *testing.T) {
	f := newFixture(t)
	for _, repo := range []string{"openshift/release", "openshift/release-images", "team/app", "team/release"} {
		f.pushImage(repo, repo, "v1", "v2")
	}
	f.blob("team/release-without-image", "x")
	for _, tc := range []struct {
		text, last string
		n          int
		want       string
	}{
		{"release", "", 2, "openshift/release openshift/release-images more"},
		{"Release", "openshift/release-images", 2, "team/release"},
		{"", "", 10, "openshift/release openshift/release-images team/app team/release"},
		{"%", "", 10, ""},
		{"team/", "team/app", 10, "team/release"},
	} {
		names, more, err := f.Find(f.ctx, tc.text, tc.last, tc.n)
		f.must(err)
		if more {
			names = append(names, "more")
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("%q after %q: %s, want %s", tc.text, tc.last, got, tc.want)
		}
	}
	if none, err := f.Tags.Count(f.ctx, nil); err != nil || len(none) > 0 {
		t.Errorf("of no repositories: %v, %v", none, err)
	}
	counts, err := f.Tags.Count(f.ctx, []string{"team/app", "none"})
	f.must(err)
	if !maps.Equal(counts, map[string]int{"team/app": 2}) {
		t.Errorf("the counts are %v", counts)
	}
}

// Pages of what some patterns match are those of all repositories without the rest.
func TestStore_FindAmong(t *testing.T) {
	f := newFixture(t)
	all := []string{"a", "a-b/c", "a.b", "a/b", "a/b-c", "a/b/c", "a/b/d", "a/z", "a0", "ab", "b", "b/c", "z/z"}
	for _, repo := range all {
		f.pushImage(repo, repo, "v1")
	}
	f.blob("a/without-image", "x")
	for _, patterns := range [][]string{nil, {"*"}, {"a"}, {"a/*"}, {"a/b/*", "a/*", "a/b"}, {"z/*", "a/b", "a"}, {"b/*", "a/b/*", "none", "none/*"}, {"", " ", "/*", "A", "a/b*"}, {"a/b", "*"}} {
		for _, text := range []string{"", "B", "/z"} {
			var want []string
			for _, repo := range all {
				if image.MatchAny(patterns, repo) && strings.Contains(repo, strings.ToLower(text)) {
					want = append(want, repo)
				}
			}
			for _, last := range append([]string{"", "a/", "a/c", "zz"}, all...) {
				left := slices.DeleteFunc(slices.Clone(want), func(repo string) bool { return repo <= last })
				for n := range len(left) + 2 {
					names, more, err := f.FindAmong(f.ctx, patterns, text, last, n)
					f.must(err)
					if !slices.Equal(names, left[:min(n, len(left))]) || more != (n > 0 && n < len(left)) {
						t.Fatalf("%q of %q, %d after %q: %q, more: %v; want of %q", text, patterns, n, last, names, more, left)
					}
				}
			}
		}
	}
}

func TestTags_Find(t *testing.T) {
	f := newFixture(t)
	one := f.pushImage("a/b", "one", "v1", "V1.1", "latest")
	f.clock.add(time.Hour)
	two := f.pushImage("a/b", "two", "v2", "latest")
	f.pushImage("c/d", "other", "v1")
	page, more, err := f.Tags.Find(f.ctx, "a/b", "v", "", 2)
	f.must(err)
	if !more || len(page) != 2 || page[0].Name != "V1.1" || page[1].Name != "v1" || page[1].Digest != one.Digest || page[1].MediaType != one.MediaType {
		t.Errorf("the first page is %+v %v", page, more)
	}
	page, more, err = f.Tags.Find(f.ctx, "a/b", "V", page[1].Name, 2)
	f.must(err)
	if more || len(page) != 1 || page[0].Digest != two.Digest || !page[0].Updated.Equal(f.clock.now()) || !page[0].Checked.IsZero() {
		t.Errorf("the second page is %+v %v", page, more)
	}
	if _, _, err := f.Tags.Find(f.ctx, "none", "", "", 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("a repository that does not exist: %v", err)
	}
}

// What an image has, and what shares it: sizes count a blob once, and what a repository lacks apart.
func TestManifests_Sizes(t *testing.T) {
	f := newFixture(t)
	config, shared, own := f.blob("a/b", "{}"), f.blob("a/b", "shared"), f.blob("a/b", "own")
	put := func(repo string, body []byte) Manifest {
		t.Helper()
		m, err := f.Manifests.Put(f.ctx, repo, body, PutOptions{Tags: []string{fmt.Sprint("t", len(body))}})
		f.must(err)
		return m
	}
	one, two := put("a/b", manifestOf(config, shared, shared, own)), put("a/b", manifestOf(config, shared))
	absent := descriptor(one.MediaType, []byte("absent"))
	both := put("a/b", index(one.Descriptor(), two.Descriptor(), absent))
	f.blob("c/d", "{}")
	f.blob("c/d", "shared")
	elsewhere := put("c/d", manifestOf(config, shared, shared))

	sizes, err := f.Manifests.Sizes(f.ctx, "a/b", []digest.Digest{one.Digest, both.Digest, one.Digest})
	f.must(err)
	all := config.Size + shared.Size + own.Size
	if want := (map[digest.Digest]Size{one.Digest: {3, 3, all}, both.Digest: {6, 5, all}}); !maps.Equal(sizes, want) {
		t.Errorf("the sizes are %v, want %v", sizes, want)
	}
	late, end := context.WithTimeout(f.ctx, 0)
	defer end()
	if sizes, err := f.Manifests.Sizes(late, "a/b", []digest.Digest{one.Digest}); len(sizes) > 0 {
		t.Errorf("without time there are %v, %v", sizes, err)
	}

	blobs := []digest.Digest{config.Digest, shared.Digest, own.Digest}
	for repo, want := range map[string]string{"": "2 2 0", "a/b": "1 1 0"} {
		n, err := f.Blobs.Shared(f.ctx, repo, one.Digest, blobs)
		f.must(err)
		if got := fmt.Sprint(n[blobs[0]], n[blobs[1]], n[blobs[2]]); got != want {
			t.Errorf("in %q the blobs are shared with %s images, want %s", repo, got, want)
		}
	}
	for _, none := range [][]digest.Digest{nil, {}} {
		n, err := f.Blobs.Shared(f.ctx, "", one.Digest, none)
		if err != nil || len(n) > 0 {
			t.Errorf("of no blobs: %v, %v", n, err)
		}
	}
	held, err := f.Manifests.Held(f.ctx, "a/b", []digest.Digest{one.Digest, own.Digest, absent.Digest, elsewhere.Digest})
	f.must(err)
	if len(held) != 2 || !held[one.Digest] || !held[own.Digest] {
		t.Errorf("held are %v", held)
	}
}

// What a deletion does is told before it, and what it refuses.
func TestManifests_Goes(t *testing.T) {
	f := newFixture(t)
	child := f.pushImage("a/b", "child", "child")
	list := f.indexed("a/b", "list", child)
	signature := f.pushImage("a/b", "signature", strings.Replace(list.Digest.String(), ":", "-", 1)+".sig")
	goes, err := f.Manifests.Goes(f.ctx, "a/b", list.Digest, false)
	f.must(err)
	if !slices.Equal(goes.Manifests, []digest.Digest{list.Digest, signature.Digest}) || !slices.Equal(goes.Children, []digest.Digest{child.Digest}) ||
		goes.AllTags != 2 || goes.Tags[0] != "list" || goes.Freed.Blobs != 2 {
		t.Errorf("the image goes as %+v", goes)
	}
	alone, err := f.Manifests.Goes(f.ctx, "a/b", list.Digest, true)
	f.must(err)
	f.must(f.Manifests.Delete(f.ctx, "a/b", list.Digest))
	if _, err := f.Manifests.Get(f.ctx, "a/b", signature.Digest); err != nil || !slices.Equal(alone.Manifests, []digest.Digest{list.Digest}) || alone.AllTags != 1 {
		t.Errorf("alone it goes as %+v; its signature: %v", alone, err)
	}
	if _, err := f.Manifests.Goes(f.ctx, "a/b", list.Digest, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("an image that is gone: %v", err)
	}
	f.attach("c-1", child.Digest)
	_, err = f.Manifests.Goes(f.ctx, "a/b", child.Digest, false)
	isKept(t, "an image that a cluster needs", err)
}

// A page costs much the same of a small store and of a large one: 100,000 repositories, and 50,000 tags in one.
func BenchmarkStore_pages(b *testing.B) {
	f := newFixture(b)
	f.must(fillNames(f))
	f.reopen()
	for _, work := range []struct {
		name string
		do   func() (int, error)
	}{
		{"first repositories", func() (int, error) { return f.somePage("", "") }},
		{"repositories by a text that many have", func() (int, error) { return f.somePage("app-09", "") }},
		{"repositories by a text that one has", func() (int, error) { return f.somePage("099999", "") }},
		{"repositories by a text that none has", func() (int, error) { return f.somePage("none", "") }},
		{"repositories of one at their end", func() (int, error) {
			names, _, err := f.FindAmong(f.ctx, []string{"team/app-099999"}, "", "", 100)
			return len(names), err
		}},
		{"first tags", func() (int, error) { return f.someTags("", "") }},
		{"tags by a text that one has", func() (int, error) { return f.someTags("049999", "") }},
		{"tags by a text that none has", func() (int, error) { return f.someTags("none", "") }},
	} {
		b.Run(work.name, func(b *testing.B) {
			for range b.N {
				if _, err := work.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func (f *fixture) somePage(text, last string) (int, error) {
	names, _, err := f.Find(f.ctx, text, last, 100)
	if err == nil {
		_, err = f.Tags.Count(f.ctx, names)
	}
	return len(names), err
}

func (f *fixture) someTags(text, last string) (int, error) {
	tags, _, err := f.Tags.Find(f.ctx, "team/app-000000", text, last, 100)
	var all []digest.Digest
	for _, t := range tags {
		all = append(all, t.Digest)
	}
	if err == nil {
		_, err = f.Manifests.Sizes(f.ctx, "team/app-000000", all)
	}
	return len(tags), err
}

// fillNames writes rows of images that share their blobs: one in each of 100,000 repositories, and 50,000 with a
// tag each in the first.
func fillNames(f *fixture) error {
	f.blob("x/y", "{}")
	f.blob("x/y", "layer")
	m := f.pushImage("x/y", "one", "v1")
	db := f.direct()
	defer db.Close()
	const n = `WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) `
	digestOf := scaleDigest("i + 1", 1<<20)
	for _, statement := range []string{`PRAGMA synchronous = OFF`,
		fmt.Sprintf(n, 100_000) + `INSERT INTO repositories (name, created) SELECT printf('team/app-%06d', i), 0 FROM n`,
		fmt.Sprintf(n, 50_000) + `INSERT INTO manifests SELECT ` + digestOf + `, media_type, artifact_type, '', '', size, created, body FROM n CROSS JOIN manifests WHERE digest = '` + m.Digest.String() + `'`,
		fmt.Sprintf(n, 50_000) + `INSERT INTO manifest_refs SELECT ` + digestOf + `, position, kind, digest, size, media_type, elsewhere FROM n CROSS JOIN manifest_refs WHERE manifest = '` + m.Digest.String() + `'`,
		fmt.Sprintf(n, 50_000) + `INSERT INTO repository_manifests (repository, digest, linked) SELECT r.id, ` + digestOf + `, 0 FROM n CROSS JOIN repositories r WHERE r.name = 'team/app-000000'`,
		fmt.Sprintf(n, 50_000) + `INSERT INTO tags SELECT r.id, printf('v%06d', i), ` + digestOf + `, 0, 0 FROM n CROSS JOIN repositories r WHERE r.name = 'team/app-000000'`,
		`INSERT INTO repository_manifests (repository, digest, linked) SELECT id, '` + m.Digest.String() + `', 0 FROM repositories WHERE name > 'team/app-000000' AND name < 'team/b'`,
		`INSERT INTO tags SELECT id, 'v1', '` + m.Digest.String() + `', 0, 0 FROM repositories WHERE name > 'team/app-000000' AND name < 'team/b'`,
		`INSERT INTO repository_blobs (repository, digest, linked) SELECT r.id, f.digest, 0 FROM repositories r CROSS JOIN manifest_refs f WHERE r.name >= 'team/app-000000' AND r.name < 'team/b' AND f.manifest = '` + m.Digest.String() + `'`,
	} {
		statement = strings.ReplaceAll(statement, "%%", "%")
		if _, err := db.ExecContext(f.ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
