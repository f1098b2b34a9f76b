package sample_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

func TestCharts(t *testing.T) {
	c := upstream(t)
	_, body := get(t, c, http.MethodGet, sample.ChartsPath+"index.yaml", nil)
	var index struct {
		Entries map[string][]struct {
			Name, Version, Type, Digest string
			URLs                        []string
		}
	}
	if err := yaml.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Entries["sample-app"]) != 2 || len(index.Entries["sample-library"]) != 1 {
		t.Fatalf("index has %+v", index.Entries)
	}
	for name, versions := range index.Entries {
		for _, v := range versions {
			resp, archive := get(t, c, http.MethodGet, sample.ChartsPath+v.URLs[0], nil)
			if got := digest.FromBytes(archive).Encoded(); resp.StatusCode != http.StatusOK || got != v.Digest {
				t.Errorf("%s: %s, digest %s, the index says %s", v.URLs[0], resp.Status, got, v.Digest)
				continue
			}
			var about struct{ Name, Version, Type string }
			fs := untgz(t, bytes.NewReader(archive))
			if err := yaml.Unmarshal(fs[name+"/Chart.yaml"], &about); err != nil {
				t.Fatal(err)
			}
			if about.Name != name || about.Version != v.Version || about.Type != v.Type {
				t.Errorf("%s holds %+v", v.URLs[0], about)
			}
		}
	}
}

func TestCharts_valuesNameImagesThatExist(t *testing.T) {
	c := upstream(t)
	_, archive := get(t, c, http.MethodGet, sample.ChartsPath+"sample-app-1.1.0.tgz", nil)
	fs := untgz(t, bytes.NewReader(archive))
	var values struct {
		Image        struct{ Repository, Tag string }
		Init, Helper struct{ Image string }
		Replicas     int
	}
	if err := yaml.UnmarshalStrict(fs["sample-app/values.yaml"], &values); err != nil {
		t.Fatal(err)
	}
	describe(t, values.Image.Repository+":"+values.Image.Tag)
	describe(t, values.Init.Image)
	describe(t, values.Helper.Image)
}
