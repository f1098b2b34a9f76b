package mirror_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
)

// set is an image set of packages of the sample catalog.
func set(packages string) string {
	return "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages:\n" + packages
}

// again mirrors another image set into the same workspace and registry.
func (s *setup) again(t *testing.T, config string, change ...options) (*mirror.Report, error) {
	t.Helper()
	s.engine = s.newEngine(t, config, change...)
	return s.mirror(t)
}

const (
	databaseTo11 = "    - name: sample-database\n      channels: [{name: stable, maxVersion: 1.1.0}]\n"
	databaseHead = "    - name: sample-database\n      channels: [{name: stable}]\n"
	loggingWrong = "    - name: sample-logging\n      minVersion: 7.0.0\n      maxVersion: 7.0.0\n"
	loggingHeads = "    - name: sample-logging\n"
	catalogStays = "the catalog that was published before stays"
)

// A failure takes nothing out of a catalog that was published before; the image set does.
func TestMirror_publishedCatalogStays(t *testing.T) {
	s := newSetup(t, set(databaseTo11+loggingHeads))
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	before := s.catalog(t, sample.CatalogTag)
	stays := func(what, missing string, report *mirror.Report, err error) {
		t.Helper()
		if got := s.catalog(t, sample.CatalogTag); exitCode(err) != 4 || got != before {
			t.Errorf("%s: %v, and the catalog has\n%s", what, err, got)
		}
		last := report.Failures[len(report.Failures)-1].Error
		if !strings.Contains(last, catalogStays) || !strings.Contains(last, missing) {
			t.Errorf("%s: the failure is %s", what, last)
		}
		for _, w := range report.Warnings {
			if strings.Contains(w, "left out") {
				t.Errorf("%s: the warnings have %q", what, w)
			}
		}
	}
	report, err := s.again(t, set(databaseTo11+loggingWrong))
	stays("a version that is not there", "it has package sample-logging", report, err)

	head := s.digest(t, "operators/sample-database-operator", "v1.2.0")
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		fails := strings.HasSuffix(r.URL.Path, "/manifests/"+head.String())
		if fails {
			w.WriteHeader(http.StatusNotFound)
		}
		return fails
	})
	report, err = s.again(t, set(databaseHead+loggingHeads))
	stays("the manifest of a new head", "it has package sample-database", report, err)

	layer := s.layer(t, "operators/sample-database-operator", s.member(t, "operators/sample-database-operator", "v1.2.0").String())
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		fails := strings.HasSuffix(r.URL.Path, "/blobs/"+layer.String())
		if fails {
			w.WriteHeader(http.StatusNotFound)
		}
		return fails
	})
	report, err = s.again(t, set(databaseHead+loggingHeads))
	stays("a blob of a new head", "it has package sample-database", report, err)
	if text := s.read(t, "cluster-resources", "cs-redhat-operator-index-v4-18.yaml"); !strings.Contains(text, sample.CatalogRepository+":v4.18") {
		t.Errorf("the CatalogSource has\n%s", text)
	}

	if _, err := s.again(t, set(loggingHeads)); err != nil || strings.Contains(s.catalog(t, sample.CatalogTag), "database") {
		t.Errorf("a package that is not asked for any more is in the catalog, or %v", err)
	}
}

// What is not in the published catalog does not keep it, and neither does a catalog that is not there.
func TestMirror_publishedCatalogGivesWay(t *testing.T) {
	s := newSetup(t, set(databaseTo11))
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	if _, err := s.again(t, set(databaseHead+loggingWrong)); exitCode(err) != 4 || !strings.Contains(s.catalog(t, sample.CatalogTag), "v1.2.0") {
		t.Errorf("%v, and the catalog has\n%s", err, s.catalog(t, sample.CatalogTag))
	}
	if _, err := s.again(t, set(databaseHead+loggingHeads)); err != nil {
		t.Fatal(err)
	}
	if err := (pruner{Store: s.store}).Delete(t.Context(), sample.CatalogRepository, sample.CatalogTag); err != nil {
		t.Fatal(err)
	}
	if _, err := s.again(t, set(databaseHead+loggingWrong)); exitCode(err) != 4 || !strings.Contains(s.catalog(t, sample.CatalogTag), "v1.2.0") {
		t.Errorf("%v, and the catalog has\n%s", err, s.catalog(t, sample.CatalogTag))
	}
}

// An image that neither the source nor the destination has costs its bundle also where that was
// published: no cluster can install it.
func TestMirror_publishedCatalogLosesWhatIsNowhere(t *testing.T) {
	s := newSetup(t, set(databaseHead+loggingHeads))
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	head := s.digest(t, "operators/sample-database-operator", "v1.2.0")
	if err := (pruner{Store: s.store}).Delete(t.Context(), "operators/sample-database-operator", head.String()); err != nil {
		t.Fatal(err)
	}
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		fails := strings.HasSuffix(r.URL.Path, "/manifests/"+head.String())
		if fails {
			w.WriteHeader(http.StatusNotFound)
		}
		return fails
	})
	if _, err := s.again(t, set(databaseHead+loggingHeads)); exitCode(err) != 4 || strings.Contains(s.catalog(t, sample.CatalogTag), "database") {
		t.Errorf("%v, and the catalog has\n%s", err, s.catalog(t, sample.CatalogTag))
	}
}
