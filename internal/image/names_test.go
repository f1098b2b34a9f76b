package image_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

func FuzzCheckTag(f *testing.F) {
	grammar := regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	for _, s := range []string{"a", "latest", "_X", "..", ".a", "-a", "a.-_b", "a/b", "a b", "ä", "", "a\n", strings.Repeat("a", 128), strings.Repeat("a", 129)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := image.CheckTag(s) == nil, grammar.MatchString(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}

func TestCheckDigest(t *testing.T) {
	for _, d := range []digest.Digest{digest.FromString("a"), digest.SHA512.FromString("a")} {
		if err := image.CheckDigest(d); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []digest.Digest{"", "sha256", "sha256:", "sha256:x", "sha256:../a", "md5:d41d8cd98f00b204e9800998ecf8427e", digest.SHA384.FromString("a"),
		digest.Digest(strings.ToUpper(digest.FromString("a").String())), digest.Digest("sha256:" + strings.Repeat("x", 1<<20))} {
		if err := image.CheckDigest(d); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.100q: %v", d, err)
		}
	}
}
