package sample_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// meta has the common fields of the documents of a file-based catalog.
type meta struct {
	Schema, Name, Package, DefaultChannel, Image string
	Entries                                      []struct {
		Name, Replaces string
		Skips          []string
	}
	RelatedImages []struct{ Name, Image string }
}

func TestCatalog(t *testing.T) {
	c := upstream(t)
	for _, img := range images(t, c.Host()+"/"+sample.CatalogRepository+":"+sample.CatalogTag) {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		root := config.Config.Labels["operators.operatorframework.io.index.configs.v1"]
		packages := map[string][]meta{}
		for path, data := range files(t, img) {
			if dir, ok := strings.CutPrefix("/"+path, root+"/"); ok && root != "" {
				packages[strings.TrimSuffix(dir, "/catalog.json")] = documents(t, data)
			}
		}
		if got := slices.Sorted(maps.Keys(packages)); !slices.Equal(got, []string{"sample-database", "sample-logging"}) {
			t.Fatalf("packages %v", got)
		}
		for name, all := range packages {
			checkPackage(t, name, all)
		}
	}
}

func documents(t *testing.T, data []byte) []meta {
	t.Helper()
	var all []meta
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var m meta
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
}

// checkPackage compares the entries of every channel with the bundles, and pulls
// every image of a bundle.
func checkPackage(t *testing.T, name string, all []meta) {
	t.Helper()
	channels, bundles := map[string]meta{}, map[string]meta{}
	for _, m := range all {
		switch m.Schema {
		case "olm.channel":
			channels[m.Name] = m
		case "olm.bundle":
			bundles[m.Name] = m
		}
	}
	if all[0].Schema != "olm.package" || all[0].Name != name || channels[all[0].DefaultChannel].Name == "" || len(channels) < 2 {
		t.Errorf("package %s is %+v with %d channels", name, all[0], len(channels))
	}
	for _, ch := range channels {
		for _, e := range ch.Entries {
			if bundles[e.Name].Name == "" {
				t.Errorf("channel %s of %s lists %s, which is no bundle", ch.Name, name, e.Name)
			}
		}
	}
	for _, b := range bundles {
		if !slices.ContainsFunc(b.RelatedImages, func(r struct{ Name, Image string }) bool { return r.Image == b.Image }) {
			t.Errorf("bundle %s is not among its related images", b.Name)
		}
		for _, related := range b.RelatedImages {
			for _, img := range images(t, related.Image) {
				if err := validate.Image(img, validate.Fast); err != nil {
					t.Errorf("%s: %v", related.Image, err)
				}
			}
		}
	}
}
