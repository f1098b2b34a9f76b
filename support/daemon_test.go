package support_test

import (
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/support"
)

// The next command for a configuration that cannot be used is told once: that of the other line, a
// restart, would end the registry.
func TestOnce(t *testing.T) {
	failed := finding.Finding{Check: "config", Level: finding.Failed, Text: "the service may not read it"}
	other := finding.Finding{Check: "space", Level: finding.OK}
	named := finding.Finding{Check: "certificate", Level: finding.Warning, Text: "the certificate is not for this name"}
	changed := finding.Finding{Check: "config", Level: finding.Warning, Text: "permission denied"}
	for name, tc := range map[string]struct{ examined, want []finding.Finding }{
		"a configuration that cannot be used": {[]finding.Finding{failed, other}, []finding.Finding{failed, other, other, {Check: "trouble", Level: named.Level, Text: named.Text}}},
		"another one":                         {[]finding.Finding{other}, []finding.Finding{other, changed, other, {Check: "trouble", Level: named.Level, Text: named.Text}}},
		"what both find":                      {[]finding.Finding{named}, []finding.Finding{named, changed, other}},
	} {
		var got []finding.Finding
		examined, asked := support.Once(func(f finding.Finding) { got = append(got, f) })
		for _, f := range tc.examined {
			examined(f)
		}
		asked(changed)
		asked(other)
		asked(finding.Finding{Check: "trouble", Level: named.Level, Text: named.Text})
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
