package operator_test

import (
	"maps"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Of a channel of which only the head is asked for, all is kept from where an earlier run began.
//
// Spec: oc-mirror 9.4, 9.7.
func TestSelect_starts(t *testing.T) {
	starts := func(channels ...string) map[string]map[string]string {
		of := map[string]string{}
		for n := 0; n < len(channels); n += 2 {
			of[channels[n]] = channels[n+1]
		}
		return map[string]map[string]string{"alder": of}
	}
	const heads = "eol: alder.v1.0.1; fast: alder.v2.1.0; stable: alder.v2.0.0"
	all := starts("eol", "1.0.1", "fast", "2.1.0", "stable", "2.0.0")
	for name, tc := range map[string]struct {
		ask    imageset.Package
		starts map[string]map[string]string
		want   string
		next   map[string]map[string]string
	}{
		"the first run":                       {want: heads, next: all},
		"a channel that began earlier":        {starts: starts("stable", "1.2.0"), want: "eol: alder.v1.0.1; fast: alder.v2.1.0; stable: alder.v1.2.0 alder.v2.0.0", next: starts("eol", "1.0.1", "fast", "2.1.0", "stable", "1.2.0")},
		"with a version that is gone":         {starts: starts("stable", "1.1.5"), want: "eol: alder.v1.0.1; fast: alder.v2.1.0; stable: alder.v1.2.0 alder.v2.0.0", next: starts("eol", "1.0.1", "fast", "2.1.0", "stable", "1.2.0")},
		"a channel that went back":            {starts: starts("stable", "9.0.0"), want: heads, next: all},
		"what is no version":                  {starts: starts("stable", "x"), want: heads, next: all},
		"versions of the image set go before": {ask: imageset.Package{MinVersion: "2.0.0"}, starts: starts("stable", "1.2.0", "fast", "1.2.0"), want: "fast: alder.v2.0.0 alder.v2.1.0; stable: alder.v2.0.0", next: starts("fast", "2.0.0", "stable", "2.0.0")},
		"one channel": {ask: imageset.Package{Channels: []imageset.PackageChannel{{Name: "stable"}}}, starts: starts("stable", "1.1.0"),
			want: "stable: alder.v1.1.0 alder.v1.2.0 alder.v2.0.0", next: starts("stable", "1.1.0")},
	} {
		t.Run(name, func(t *testing.T) {
			tc.ask.Name = "alder"
			s, err := scan(t, catalog(t, "trees")).Select(imageset.Operator{Packages: []imageset.Package{tc.ask}, Starts: tc.starts}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := channelsOf(s); got != tc.want {
				t.Errorf("selected %s\nwant %s", got, tc.want)
			}
			if got := s.Starts(); !maps.Equal(got["alder"], tc.next["alder"]) {
				t.Errorf("the next run begins with %v, want %v", got, tc.next)
			}
		})
	}
}

func TestSelect_startsOfWhatIsWhole(t *testing.T) {
	s, err := scan(t, catalog(t, "trees")).Select(imageset.Operator{Full: true, Packages: []imageset.Package{{Name: "alder"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Starts(); len(got) != 0 {
		t.Errorf("a package that is whole begins with %v", got)
	}
}
