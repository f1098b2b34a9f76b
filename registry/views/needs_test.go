package views_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// needed returns what needs an image, by another workspace's question.
func (f *fixture) needed(workspace, repo, ref string) (by string) {
	f.Helper()
	all, err := f.views.Needs(f.Context(), api.NeedsRequest{Workspace: workspace, Images: []api.Place{{Repository: repo, Reference: ref}, {Repository: "far/absent", Reference: "v1"}}})
	f.must(err)
	if len(all) == 0 {
		return ""
	}
	if len(all) > 1 || all[0].Repository != repo || all[0].Reference != ref {
		f.Errorf("%+v is needed", all)
	}
	if all[0].Content {
		return "content: " + all[0].By
	}
	return all[0].By
}

// wants replaces what the only image set wants.
func (f *fixture) wants(images ...string) (workspace string) {
	f.Helper()
	all, err := f.Runs.Wants(f.Context())
	f.must(err)
	var wants mirror.Wants
	for key, text := range all {
		f.must(json.Unmarshal([]byte(text), &wants))
		wants.Images = images
		changed, err := json.Marshal(wants)
		f.must(err)
		run, err := f.Runs.Begin(f.Context(), "test")
		f.must(err)
		f.must(run.Want(f.Context(), key, changed))
		f.must(run.Abort(f.Context()))
	}
	return wants.Workspace
}

// tag tags a manifest, as a client does.
func (f *fixture) tag(repo, tag string, d digest.Digest) error {
	m, err := f.Manifests.Get(f.Context(), repo, d)
	if err == nil {
		_, err = f.Manifests.Put(f.Context(), repo, m.Body, store.PutOptions{Digest: d, Tags: []string{tag}, MediaType: m.MediaType})
	}
	return err
}

// A catalog of which one platform is mirrored is an original, and what it needs is known. One that cannot be read
// is an error, and not "not found".
func TestViews_ofOnePlatform(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(strings.Replace(index, "    targetTag: v4.18\n", "    targetTag: v4.18\n    platforms: [{os: linux, architecture: amd64}]\n", 1) +
		strings.Replace(database("1.1.0"), "    packages:", "    platforms: [{os: linux, architecture: amd64}]\n    packages:", 1))
	f.one()
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	const bundle = "operators/sample-database-bundle"
	repo, d := f.image(bundle, "v1.2.0")
	f.wants()
	tags, err := f.Tags.Of(t.Context(), repo, d)
	f.must(err)
	if by := f.needed("", repo, tags[0]); !strings.Contains(by, "which offers bundle sample-database.v1.2.0") {
		t.Errorf("it is needed by %q", by)
	}
	m, err := f.Manifests.ByTag(t.Context(), "far/redhat/redhat-operator-index", "v4.18")
	f.must(err)
	parsed, err := image.Parse(m.MediaType, m.Body)
	f.must(err)
	for _, r := range parsed.References {
		if err := f.Manifests.Delete(t.Context(), "far/redhat/redhat-operator-index", r.Digest); err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
	}
	_, err = f.views.Needs(t.Context(), api.NeedsRequest{Images: []api.Place{{Repository: repo, Reference: tags[0]}}})
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "catalog far/redhat/redhat-operator-index:v4.18") || hint.Of(err) == "" {
		t.Errorf("a catalog that cannot be read: %v", err)
	}
}

// The original of a view is needed by the view, by whichever name the view has it.
func TestViews_needTheirOriginals(t *testing.T) {
	for _, byDigest := range []bool{false, true} {
		view := stable("views/db:v1")
		f := newFixture(t, view)
		f.mirror(index + database("1.1.0"))
		f.one()
		workspace := f.wants()
		if d := f.digest("far/originals/index", "v4.18"); byDigest {
			view.Original = "far/originals/index@" + d.String()
			f.configure(view)
		}
		if by := f.needed(workspace, "far/originals/index", "v4.18"); !strings.Contains(by, "view views/db:v1, whose original it is") {
			t.Errorf("it is needed by %q", by)
		}
		f.configure()
		if by := f.needed(workspace, "far/originals/index", "v4.18"); by != "" {
			t.Errorf("without a view it is needed by %q", by)
		}
	}
}

// What a catalog needs whose manifest is damaged is not known: to leave it out would have its images deleted.
func TestViews_NeedsOfADamagedCatalog(t *testing.T) {
	f := newFixture(t)
	f.mirror(index + database("1.1.0"))
	repo, d := f.image("operators/sample-database-bundle", "v1.2.0")
	f.must(f.Close())
	db, err := sql.Open("sqlite", f.options.Database)
	f.must(err)
	_, err = db.ExecContext(t.Context(), `UPDATE manifests SET body = CAST(body || ' ' AS BLOB)
		WHERE digest = (SELECT digest FROM tags t JOIN repositories r ON r.id = t.repository WHERE r.name = 'far/redhat/redhat-operator-index' AND t.name = 'v4.18')`)
	f.must(errors.Join(err, db.Close()))
	f.open()
	f.wants()
	all, err := f.views.Needs(t.Context(), api.NeedsRequest{WithoutImageSets: true, Images: []api.Place{{Repository: repo, Reference: d.String()}}})
	if err == nil || !strings.Contains(err.Error(), "catalog far/redhat/redhat-operator-index:v4.18") || hint.Of(err) == "" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestViews_Needs(t *testing.T) {
	f := newFixture(t)
	f.mirror(index + database("1.1.0"))
	const bundle, catalog = "operators/sample-database-bundle", "far/redhat/redhat-operator-index"
	repo, d := f.image(bundle, "v1.2.0")
	tags, err := f.Tags.Of(t.Context(), repo, d)
	f.must(err)
	tag := tags[0]
	if by := f.needed("", repo, tag); !strings.HasPrefix(by, "image set set.yaml of the workspace "+f.dir) {
		t.Errorf("what an image set wants is needed by %q", by)
	}
	own := f.wants(repo+":another", catalog+":v4.18")
	f.must(f.tag(repo, "another", d))
	if by := f.needed("", repo, "another"); !strings.HasPrefix(by, "image set") {
		t.Errorf("it is needed by %q", by)
	}
	t.Run("by another tag", func(t *testing.T) {
		f.wants(repo + ":another")
		if by := f.needed("", repo, d.String()); !strings.HasPrefix(by, "image set") {
			t.Errorf("its digest is needed by %q", by)
		}
	})
	t.Run("a catalog of the workspace that asks needs nothing", func(t *testing.T) {
		f.wants(catalog + ":v4.18")
		if by := f.needed(own, repo, tag); by != "content: tag "+repo+":another" {
			t.Errorf("it is needed by %q", by)
		}
	})
	t.Run("a catalog of another one does", func(t *testing.T) {
		if by := f.needed("", repo, tag); by != "catalog "+catalog+":v4.18, which offers bundle sample-database.v1.2.0 of operator sample-database," {
			t.Errorf("it is needed by %q", by)
		}
		_, old := f.image(bundle, "v1.0.0")
		if by := f.needed("", repo, old.String()); by != "" {
			t.Errorf("what it does not offer is needed by %q", by)
		}
	})
	t.Run("a view does", func(t *testing.T) {
		f.configure(stable("views/db:v1"))
		f.one()
		if by := f.needed(own, repo, tag); !strings.HasPrefix(by, "view views/db:v1, which offers bundle sample-database.v1.2.0") {
			t.Errorf("it is needed by %q", by)
		}
	})
}

// What cannot be read is told in the answer: the question may be about several catalogs.
func TestViews_Content(t *testing.T) {
	f := newFixture(t)
	f.mirror("  operators:\n  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database, channels: [{name: stable, minVersion: 1.0.0}]}]}\n" +
		"  additionalImages: [{name: 'HOST/samples/docker:v1', targetTag: v4.18}]\n")
	for repo, want := range map[string]string{"far/redhat/redhat-operator-index": "", "far/samples/docker": "not an operator catalog", "absent": "not found"} {
		content, err := f.views.Content(t.Context(), api.Place{Repository: repo, Reference: "v4.18"})
		f.must(err)
		if (content.Error == "") != (want == "") || !strings.Contains(content.Error, want) || want == "" && !strings.Contains(string(content.Content), `"versions":["1.0.0","1.1.0","1.2.0"]`) {
			t.Errorf("%s has %s, %s", repo, content.Content, content.Error)
		}
	}
}
