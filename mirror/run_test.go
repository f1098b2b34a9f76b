package mirror_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
)

// runs makes Run and DryRun go into the setup's store.
func (s *setup) runs(names *[]string) func(*mirror.Options) {
	return func(o *mirror.Options) {
		o.Begin = func(ctx context.Context, name string) (mirror.Destination, error) {
			*names = append(*names, name)
			return s.store.Runs.Begin(ctx, name)
		}
	}
}

func TestRun(t *testing.T) {
	var names []string
	s := newSetup(t, additional+"  - name: HOST/samples/none:v1\n")
	o := s.options(t, additional+"  - name: HOST/samples/none:v1\n", s.runs(&names))
	p, mapping, err := mirror.DryRun(t.Context(), o)
	if exitCode(err) != 8 || !strings.Contains(err.Error(), "1 of 3 images cannot be mirrored") || len(p.Images) != 2 || p.Missing != p.Bytes {
		t.Fatalf("%+v, %v", p, err)
	}
	if text, err := os.ReadFile(mapping); err != nil || strings.Count(string(text), "\n") != 2 {
		t.Errorf("the mapping is %q, %v", text, err)
	}
	if found := s.repositories(t); len(found) != 0 {
		t.Errorf("a dry run has left %v", found)
	}
	report, err := mirror.Run(t.Context(), o)
	if exitCode(err) != 8 || report == nil || !strings.Contains(err.Error(), "1 of 3 images are not at their destination, see "+report.ErrorFile) {
		t.Fatalf("%+v, %v", report, err)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	if written, err := os.ReadFile(report.File); err != nil || !json.Valid(written) {
		t.Errorf("the report is %q, %v", written, err)
	}
	if planned, _ := s.events.count(mirror.Planned); planned != 1 {
		t.Errorf("%d events tell of a plan, want that of Run", planned)
	}
	if want := []string{"dry run of isc.yaml", "isc.yaml"}; !slices.Equal(names, want) {
		t.Errorf("the runs are called %q, want %q", names, want)
	}
}
