package registry_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/config"
)

// hostileName is what a package may be called: it is the name of a directory.
var hostileName = strings.ReplaceAll(hostile, "/", "")

// catalog pushes a hostile operator catalog.
func (r *running) catalog(t *testing.T, at string) {
	t.Helper()
	must(t, remote.Write(tag(t, at), hostileCatalog(t), r.remote(t, "admin", password)...))
}

// hostileCatalog is an operator catalog in which everything that has a name has a hostile one.
func hostileCatalog(t *testing.T) v1.Image {
	t.Helper()
	var text, layer bytes.Buffer
	add := func(v map[string]any) { must(t, json.NewEncoder(&text).Encode(v)) }
	name, bundle := hostileName, hostile+".v1"
	add(map[string]any{"schema": "olm.package", "name": name, "defaultChannel": hostile})
	add(map[string]any{"schema": "olm.channel", "package": name, "name": hostile, "entries": []map[string]any{{"name": bundle, "replaces": hostile, "skips": []string{hostile}, "skipRange": hostile}}})
	add(map[string]any{"schema": "olm.bundle", "package": name, "name": bundle, "image": "up.test/" + hostile,
		"properties": []map[string]any{{"type": "olm.package", "value": map[string]any{"packageName": name, "version": "1.0.0"}},
			{"type": "olm.csv.metadata", "value": map[string]any{"displayName": hostile}}}})
	add(map[string]any{"schema": "olm.deprecations", "package": name, "entries": []map[string]any{
		{"reference": map[string]any{"schema": "olm.package"}, "message": hostile},
		{"reference": map[string]any{"schema": "olm.channel", "name": hostile}, "message": hostile}}})
	w := tar.NewWriter(&layer)
	must(t, w.WriteHeader(&tar.Header{Name: "configs/catalog.json", Mode: 0o644, Size: int64(text.Len())}))
	_, err := w.Write(text.Bytes())
	must(t, err)
	must(t, w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	must(t, err)
	img, err := mutate.AppendLayers(empty.Image, l)
	must(t, err)
	img, err = mutate.Config(img, v1.Config{Labels: map[string]string{"operators.operatorframework.io.index.configs.v1": "/configs"}})
	must(t, err)
	return img
}

func TestConsole_catalogs(t *testing.T) {
	source, set, write := newCatalogSync(t)
	write("1.0.0")
	view := config.Catalog{Name: "views/all:v1", Original: "originals/index:v4.18", Keep: time.Hour, Packages: []imageset.Package{{Name: "sample-database"}}}
	broken := config.Catalog{Name: "views/broken:v1", Original: "originals/absent:v1", Keep: time.Hour}
	r := start(t, func(c *config.Config) { c.Sync, c.Catalogs = []config.Sync{set}, []config.Catalog{broken, view} })
	s := r.logIn(t, "admin")
	s.shows(t, "/catalogs", 200, "views/broken:v1: the original originals/absent:v1 is not in this registry", "nothing yet")
	r.mirrored(t, set, true)
	until(t, "the view", func() bool {
		state, err := r.admin.Status(t.Context())
		return err == nil && state.Catalogs[1].Bundles > 0
	})
	s.shows(t, "/catalogs", 200, `href="/catalogs/redhat/redhat-operator-index:v4.18"`, source+"/redhat/redhat-operator-index:v4.18",
		`href="/catalogs/views/all:v1"`, `href="/catalogs/originals/index:v4.18"`, "made first, with", "absent from operators/sample-database-bundle", "!catalog views/all:v1:")
	s.shows(t, "/catalogs/redhat/redhat-operator-index:v4.18", 200, "1 operator with 3 versions", "sample-database", "all are here", "!sample-logging",
		"appliance list operators --catalog "+host+"/redhat/redhat-operator-index:v4.18")
	original := "/catalogs/originals/index:v4.18"
	s.shows(t, original, 200, "2 operators with 7 versions", "1 version lacks images", "3 versions lack images")
	s.shows(t, original+"?search=LOGG", 200, "sample-logging", "!sample-database")
	s.shows(t, original+"?search=kafka", 200, "No operator has such a name")
	s.shows(t, original+"?operator=sample-database", 200, "Versions in channel stable", "1.0.0", "sample-database.v1.1.0", "1 version lacks images", "!1 is not here")
	s.shows(t, original+"?operator=sample-database&channel=fast", 200, "Versions in channel fast", "2.0.0", "absent from operators/sample-database-bundle", "To the image sets")
	for _, absent := range []string{original + "?operator=kafka", original + "?operator=sample-database&channel=x", "/catalogs/originals/index:v9", "/catalogs/originals", "/catalogs/originals:v%20x"} {
		s.shows(t, absent, 404, "There is no such catalog, operator or channel here.")
	}
	s.shows(t, "/catalogs/operators/sample-database-bundle@"+r.digestOfBundle(t), 200, "The catalog cannot be read: the image is not an operator catalog")
	r.logIn(t, "pull").shows(t, original, 403, "This page is for administrators.")
}

// digestOfBundle returns the digest of an image that is no catalog.
func (r *running) digestOfBundle(t *testing.T) string {
	t.Helper()
	_, tags := r.as(t, "pull", http.MethodGet, "/v2/operators/sample-database-bundle/tags/list")
	return strings.Replace(tags[strings.LastIndex(tags, "sha256-"):][:71], "-", ":", 1)
}

func TestConsole_catalogsEmptyAndHostile(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	s.shows(t, "/catalogs", 200, "There is no operator catalog here", "appliance mirror -c imageset.yaml docker://"+host)
	r.catalog(t, "team/index:v1")
	for _, path := range []string{"/catalogs/team/index:v1", "/catalogs/team/index:v1?operator=" + url.QueryEscape(hostileName)} {
		s.shows(t, path, 200, "&lt;script&gt;", "!"+hostile, "!"+hostileName)
	}
}
