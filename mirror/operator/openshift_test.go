package operator_test

import (
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/operator"
)

func TestRange_Allows(t *testing.T) {
	for _, tc := range []struct {
		max      []string
		versions string
		allowed  []uint64 // minors of 4.13 to 4.17
		unknown  bool
	}{
		{nil, "", []uint64{13, 14, 15, 16, 17}, false},
		{[]string{"4.15"}, "", []uint64{13, 14, 15}, false},
		{[]string{"4.15.9"}, "", []uint64{13, 14, 15}, false},
		{[]string{"5.0"}, "", []uint64{13, 14, 15, 16, 17}, false},
		{[]string{"3.99"}, "", nil, false},
		{[]string{"4"}, "", nil, true}, {[]string{""}, "", nil, true}, {[]string{"4.15", "4.16"}, "", nil, true}, {[]string{"4.x"}, "", nil, true},
		{nil, "v4.15", []uint64{15, 16, 17}, false},
		{nil, "4.15", []uint64{15, 16, 17}, false},
		{nil, "v4.14-v4.16", []uint64{14, 15, 16}, false},
		{nil, "=v4.15", []uint64{15}, false},
		{nil, "v4.14,v4.15", []uint64{14, 15, 16, 17}, false},
		{nil, "v4.14-", nil, true}, {nil, "all", nil, true},
		{[]string{"4.16"}, "v4.15", []uint64{15, 16}, false},
	} {
		var got []uint64
		unknown := false
		for minor := uint64(13); minor <= 17; minor++ {
			ok, err := operator.Range{Max: tc.max, Versions: tc.versions}.Allows(operator.Minor{Major: 4, Minor: minor})
			unknown = unknown || err != nil
			if ok {
				got = append(got, minor)
			}
		}
		if !slices.Equal(got, tc.allowed) || unknown != tc.unknown {
			t.Errorf("%q %q: %v, unknown %v", tc.max, tc.versions, got, unknown)
		}
	}
}

func TestChannel_Next(t *testing.T) {
	c := operator.Channel{Entries: []operator.Entry{{Name: "op.v1.0.0"}, {Name: "op.v1.1.0", Replaces: "op.v1.0.0"}, {Name: "op.v1.2.0", Replaces: "op.v1.1.0", Skips: []string{"op.v1.0.5"}, SkipRange: ">=0.9.0 <1.2.0"}}}
	for _, tc := range []struct {
		name, version string
		want          []string
	}{
		{"op.v1.0.0", "1.0.0", []string{"op.v1.1.0", "op.v1.2.0"}}, {"op.v1.0.5", "", []string{"op.v1.2.0"}}, {"op.v0.9.1", "0.9.1", []string{"op.v1.2.0"}},
		{"op.v1.2.0", "1.2.0", nil}, {"op.v0.1.0", "0.1.0", nil}, {"op.vx", "x", nil},
	} {
		if got := c.Next(tc.name, tc.version); !slices.Equal(got, tc.want) {
			t.Errorf("from %s: %q", tc.name, got)
		}
	}
}
