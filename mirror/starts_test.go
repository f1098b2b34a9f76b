package mirror_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

func keepPaths(o *mirror.Options) { o.KeepUpgradePaths = true }

// atThen and head are an image set on the day of the first run, when the versions that it names were
// the heads, and that image set.
const (
	atThen = "  operators:\n  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database, channels: [{name: stable, minVersion: 1.1.0, maxVersion: 1.1.0}]}]}\n" +
		"  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n"
	head = "  operators:\n  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database, channels: [{name: stable}]}]}\n" +
		"  platform:\n    channels: [{name: stable-4.18}]\n"
)

// releases returns the releases of the store.
func (s *setup) releases(t *testing.T) string {
	t.Helper()
	var all []string
	for _, tag := range s.tags(t, "openshift/release-images") {
		if version, ok := strings.CutSuffix(tag, "-x86_64"); ok {
			all = append(all, version)
		}
	}
	return strings.Join(all, " ")
}

func (s *setup) keeping(t *testing.T, config string, change ...options) *mirror.Report {
	t.Helper()
	r, err := mirror.Run(t.Context(), s.options(t, config, append(change, s.beginning)...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Later runs mirror from the head of the first one to that of today.
//
// Spec: oc-mirror 9.4.
func TestRun_keepsUpgradePaths(t *testing.T) {
	s := newSetup(t, head)
	s.keeping(t, head)
	heads := s.catalog(t, "v4.18")
	if _, err := os.Stat(filepath.Join(s.workspace, "working-dir", "upgrade-paths.json")); err == nil {
		t.Error("a run that was not asked to has remembered what it began with")
	}
	if strings.Contains(heads, "v1.1.0") {
		t.Fatalf("the catalog has\n%s", heads)
	}
	s = newSetupFrom(t, s.source, head)
	s.keeping(t, atThen, keepPaths)
	for range 2 {
		s.keeping(t, head, keepPaths)
		if got := s.catalog(t, "v4.18"); !strings.HasPrefix(got, "sample-database stable: v1.1.0 v1.2.0\n") {
			t.Errorf("the catalog has\n%s", got)
		}
		if got := s.releases(t); got != "4.18.1 4.18.2 4.18.3" {
			t.Errorf("releases %s", got)
		}
	}
	if d, err := mirror.FindDrift(t.Context(), s.options(t, head, keepPaths, s.beginning), pruner{Store: s.store}); err != nil || d.Differs() {
		t.Errorf("after it: %+v, %v", d, err)
	}
	_, pruned := mirror.Run(t.Context(), s.options(t, head, s.beginning, s.pruning))
	_, _, planned := mirror.DryRun(t.Context(), s.options(t, head, s.beginning, s.pruning))
	_, listed := mirror.PlanPrune(t.Context(), s.options(t, head, s.beginning), pruner{Store: s.store}, mirror.DeleteList{})
	for _, err := range []error{pruned, planned, listed} {
		if err == nil || !strings.Contains(err.Error(), "upgrade-paths.json") || !strings.Contains(hint.Of(err), "--keep-upgrade-paths") {
			t.Errorf("pruned without the paths: %v", err)
		}
	}
	if _, err := mirror.Run(t.Context(), s.options(t, head, keepPaths, s.beginning, s.pruning)); err != nil || s.releases(t) != "4.18.1 4.18.2 4.18.3" {
		t.Errorf("pruned with the paths: %s, %v", s.releases(t), err)
	}
	if err := os.WriteFile(filepath.Join(s.workspace, "working-dir", "upgrade-paths.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Run(t.Context(), s.options(t, head, keepPaths, s.beginning)); err == nil || !strings.Contains(err.Error(), "read what the upgrade paths begin with") {
		t.Errorf("a damaged file: %v", err)
	}
}

// A catalog that has failed is not remembered.
func TestRun_whatFailedBeginsLater(t *testing.T) {
	s := newSetup(t, atThen)
	breaks := func(o *mirror.Options) {
		o.Events = func(e mirror.Event) {
			if e.Kind == mirror.Planned {
				s.fails(func(w http.ResponseWriter, r *http.Request) bool {
					fails := strings.HasPrefix(r.URL.Path, "/v2/"+sample.CatalogRepository+"/blobs/")
					if fails {
						w.WriteHeader(http.StatusNotFound)
					}
					return fails
				})
			}
		}
	}
	if _, err := mirror.Run(t.Context(), s.options(t, atThen, keepPaths, breaks, s.beginning)); exitCode(err) != 4 {
		t.Fatalf("the run ends with %v", err)
	}
	if got := s.read(t, "upgrade-paths.json"); strings.Contains(got, "sample-database") || !strings.Contains(got, `"stable-4.18": "4.18.1"`) {
		t.Errorf("remembered %s", got)
	}
}

// What an archive begins with is in it, since the far side has other memories, or none.
func TestRun_upgradePathsOfAnArchive(t *testing.T) {
	s := newSetup(t, head)
	write := func(config string, change ...options) {
		t.Helper()
		var w *archive.Writer
		_, err := mirror.Run(t.Context(), s.options(t, config, append(change, func(o *mirror.Options) {
			o.Registry, o.ToArchive = "localhost:55000", true
			o.Begin = func(ctx context.Context, _ string) (_ mirror.Destination, err error) {
				w, err = archive.Create(ctx, archive.Options{Dir: s.workspace, ImageSet: o.Config.Text, Since: time.Unix(0, 0)})
				return w, err
			}
		})...))
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	releases := func() string {
		t.Helper()
		far := newSetupFrom(t, s.source, head)
		a, err := archive.Open(t.Context(), s.workspace)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		far.keeping(t, head, func(o *mirror.Options) {
			o.Documents = a
			o.Open = func(ref imageset.Reference) (mirror.Source, error) { return a.Repository(ref.Name(), ref.Path), nil }
		})
		return far.releases(t)
	}
	write(atThen, keepPaths)
	write(head, keepPaths)
	if got := releases(); got != "4.18.1 4.18.2 4.18.3" {
		t.Errorf("from an archive that keeps paths: %s", got)
	}
	write(head)
	if got := releases(); got != "4.18.3" {
		t.Errorf("from one that does not: %s", got)
	}
}
