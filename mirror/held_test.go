package mirror_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// A catalog that cannot be read is in a comment, with the images of bundles that none brings.
func TestHeldImageSet_catalogs(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	origin := func(repository, tag, about string) mirror.Origin {
		return mirror.Origin{Repository: repository, Tag: tag, About: json.RawMessage(strings.ReplaceAll(about, "DIGEST", digest))}
	}
	origins := []mirror.Origin{
		origin("p/a/one", "v1", `{"type":"operatorCatalog","origin":"quay.io/a/one:v1","prefix":"p","template":"e30="}`),
		origin("a-joined", "sha256-"+strings.Repeat("a", 64), `{"type":"operatorCatalog","origin":"quay.io/a/joined@DIGEST","digest":"DIGEST","joined":true}`),
		origin("index", "latest", `{"type":"operatorCatalog","origin":"oci:///srv/index"}`),
		origin("a/none", "v1", `{"type":"operatorCatalog","origin":"quay.io/a/none:v1"}`),
		origin("a/broken", "v1", `{"type":"operatorCatalog","origin":"quay.io/a/broken:v1"}`),
		origin("b/one", "v1", `{"type":"operatorBundle","origin":"quay.io/b/one@DIGEST"}`),
		origin("b/two", "v1", `{"type":"operatorBundle","origin":"quay.io/b/two@DIGEST"}`),
	}
	read := func(at mirror.Place) (*catalog.Content, error) {
		switch at.Repository {
		case "a/broken":
			return nil, &mirror.CatalogError{Reason: "it is damaged"}
		case "a/none":
			return &catalog.Content{}, nil
		}
		return &catalog.Content{Packages: []catalog.Package{{Name: "db", Channels: []catalog.Channel{{Name: "stable", Versions: []string{"1.0.0"}}}}},
			Images: []string{"quay.io/b/one@" + digest}, Unasked: []string{"bundle x"}}, nil
	}
	text, err := mirror.HeldImageSet(origins, nil, read)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# not in here: catalog a/broken:v1 of quay.io/a/broken:v1, which cannot be read: it is damaged\n",
		"# not in here: catalog a/none:v1 of quay.io/a/none:v1, which has no packages\n",
		"# not in here: images of type operatorBundle, 1 of them\n", "# some of it is below the path p:", "--max-nested-paths",
		"# its CatalogSource was made of a targetCatalogSourceTemplate", "# it was read from a directory of the host",
		"# held, and not asked for here: bundle x\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	c, err := imageset.Parse("held.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Mirror.Operators) != 3 || strings.Contains(string(text), "targetCatalog:") || strings.Contains(string(text), "targetTag:") {
		t.Errorf("it is\n%s", text)
	}
	failed := errors.New("the connection is gone")
	if _, err := mirror.HeldImageSet(origins, nil, func(mirror.Place) (*catalog.Content, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("without an answer the error is %v", err)
	}
}
