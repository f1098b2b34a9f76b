package operator_test

import (
	"crypto/md5"
	"encoding/hex"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// Spec: oc-mirror 5.6.
func TestFilterKeys_areThoseOfOCMirror(t *testing.T) {
	const d = digest.Digest("sha256:5551000000000000000000000000000000000000000000000000000000000000")
	for _, tc := range []struct {
		name           string
		ask            imageset.Operator
		normal, legacy string
	}{
		{"a bare catalog", imageset.Operator{Catalog: "localhost:5001/redhat/my-operator-index:v4.18", TargetTag: "x"},
			`{"packages":null,"catalog":"localhost:5001/redhat/my-operator-index@` + d.String() + `"}`,
			`{"packages":null,"catalog":"localhost:5001/redhat/my-operator-index:v4.18"}`},
		{"a package", imageset.Operator{Catalog: "localhost:5001/redhat/my-operator-index@" + d.String(), Packages: []imageset.Package{{Name: "foo", MinVersion: "0.2.0"}}},
			`{"packages":[{"name":"foo","minVersion":"0.2.0"}],"catalog":"localhost:5001/redhat/my-operator-index@` + d.String() + `"}`,
			`{"packages":[{"name":"foo","minVersion":"0.2.0"}],"catalog":"localhost:5001/redhat/my-operator-index@` + d.String() + `"}`},
		{"a channel, platforms and a layout", imageset.Operator{Catalog: "oci:///abs/dir", Full: true, SkipDependencies: true,
			Platforms: []imageset.OSArch{{OS: "linux", Architecture: "amd64"}},
			Packages:  []imageset.Package{{Name: "foo", DefaultChannel: "<b>", Channels: []imageset.PackageChannel{{Name: "b", MinVersion: "1", MaxVersion: "2"}}}}},
			`{"packages":[{"name":"foo","channels":[{"name":"b","minVersion":"1","maxVersion":"2"}],"defaultChannel":"\u003cb\u003e"}],"catalog":"/abs/dir@` + d.String() +
				`","full":true,"skipDependencies":true,"platforms":[{"os":"linux","architecture":"amd64"}]}`,
			`{"packages":[{"name":"foo","channels":[{"name":"b","minVersion":"1","maxVersion":"2"}],"defaultChannel":"\u003cb\u003e"}],"catalog":"oci:///abs/dir","full":true,"skipDependencies":true,"platforms":[{"os":"linux","architecture":"amd64"}]}`},
	} {
		key, legacy := operator.FilterKeys(tc.ask, d)
		for _, pair := range [][2]string{{key, tc.normal}, {legacy, tc.legacy}} {
			sum := md5.Sum([]byte(pair[1]))
			if want := hex.EncodeToString(sum[:]); pair[0] != want {
				t.Errorf("%s: the key is %s, want %s, that of %s", tc.name, pair[0], want, pair[1])
			}
		}
	}
}

func TestKey_differsWithWhatDecides(t *testing.T) {
	const d = digest.Digest("sha256:5551000000000000000000000000000000000000000000000000000000000000")
	ask := imageset.Operator{Catalog: "a/b:c", Packages: []imageset.Package{{Name: "foo"}}}
	elsewhere := ask
	elsewhere.Catalog, elsewhere.TargetTag, elsewhere.SkipDependencies = "d/e:f", "x", true
	elsewhere.Platforms = []imageset.OSArch{{OS: "linux", Architecture: "arm64"}}
	key := operator.Key(ask, d, false, nil)
	if operator.Key(elsewhere, d, false, nil) != key {
		t.Error("where a catalog comes from and goes to changes its key")
	}
	lacking := []operator.Bundle{{Package: "foo", Name: "b"}, {Package: "foo", Name: "a"}}
	turned := []operator.Bundle{lacking[1], lacking[0], lacking[1]}
	if operator.Key(ask, d, false, lacking) != operator.Key(ask, d, false, turned) {
		t.Error("the order of what is lacking changes the key")
	}
	full := ask
	full.Full = true
	begun := ask
	begun.Starts = map[string]map[string]string{"foo": {"stable": "1.0.0"}}
	seen := map[digest.Digest]bool{key: true}
	for _, k := range []digest.Digest{
		operator.Key(ask, d.Algorithm().FromString("another"), false, nil), operator.Key(full, d, false, nil),
		operator.Key(ask, d, true, nil), operator.Key(ask, d, false, lacking), operator.Key(imageset.Operator{}, d, false, nil),
		operator.Key(begun, d, false, nil),
	} {
		if seen[k] {
			t.Errorf("two that differ have the key %s", k)
		}
		seen[k] = true
	}
}
