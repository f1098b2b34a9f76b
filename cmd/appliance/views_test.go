package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestPrintViews(t *testing.T) {
	few := api.CatalogView{Name: "views/a:v1", Original: "a/b:v1", Digest: "sha256:a", Frozen: "2999-01-01", ToFreeze: true}
	for n := range 20 {
		few.LeftOut = append(few.LeftOut, api.LeftOut{Package: "p", Bundle: fmt.Sprintf("p.v%d", n), Reason: "it is absent"})
		few.Warnings = append(few.Warnings, fmt.Sprintf("bundle p.v%d is left out", n))
	}
	many := few
	many.MoreLeftOut, many.MoreWarnings, many.ToFreeze = 3000, 2000, false
	for _, tc := range []struct {
		view  api.CatalogView
		lines int
		want  []string
	}{
		{few, 42, []string{"to be frozen at 2999-01-01: it follows its original until then", "without p.v19: it is absent", "warning: bundle p.v19 is left out"}},
		{many, 14, []string{"  frozen at 2999-01-01\n", "without p.v4: it is absent", "  without 3015 bundles more\n", "  2015 warnings more\n"}},
	} {
		var out strings.Builder
		printViews(&out, api.CatalogsResult{Views: []api.CatalogView{tc.view}})
		for _, want := range tc.want {
			if got := out.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != tc.lines {
				t.Errorf("%d lines, want %q in %d:\n%s", strings.Count(got, "\n"), want, tc.lines, got)
			}
		}
	}
}
