package cluster_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/hint"
)

func TestChoose(t *testing.T) {
	for ask, want := range map[string]string{
		"":              "4.21.1-x86_64 for 4.21",
		"4.20":          "4.20.10-x86_64 for 4.20",
		"4.20.9":        "4.20.9-x86_64 for 4.20",
		"4.20.9-x86_64": "4.20.9-x86_64 for 4.20",
		"4.22":          "4.22.0-rc.1-x86_64 for 4.22",
		"4.22.0-rc.1":   "4.22.0-rc.1-x86_64 for 4.22",
		"4.19": "error: OpenShift 4.19 was not mirrored into this appliance; there is: 4.18.1-aarch64, 4.18.1-multi, " +
			"4.20.9-x86_64, 4.20.10-x86_64, 4.21.1-x86_64, 4.22.0-rc.0-x86_64, 4.22.0-rc.1-x86_64; name one of those, or mirror",
		"4.19 pulled":               " for 4.19",
		"4.19.7 pulled":             "4.19.7-x86_64 for 4.19",
		"4.19.7-aarch64 pulled":     "4.19.7-aarch64 for 4.19",
		"4.18":                      "error: 4.18.1 is there for several architectures: aarch64, multi; name one: --arch aarch64",
		"4.18 multi":                "4.18.1-multi for 4.18",
		"4.20 s390x":                "error: OpenShift 4.20 for s390x was not mirrored into this appliance",
		"4.20 sparc":                `error: --arch "sparc" is not an architecture of releases`,
		"4.x":                       `error: --version "4.x" is not a version of OpenShift`,
		"four":                      `error: --version "four" is not a version of OpenShift`,
		"4.20.99999999999999999999": `error: --version "4.20.99999999999999999999" is not a version`,
	} {
		words := strings.Split(ask, " ")
		w := cluster.Wish{Version: words[0]}
		if len(words) > 1 && words[1] == "pulled" {
			w.Pulled = true
		} else if len(words) > 1 {
			w.Machine = words[1]
		}
		var all []cluster.Release
		for _, tag := range strings.Fields("4.20.9-x86_64 4.20.10-x86_64 4.21.1-x86_64 4.22.0-rc.0-x86_64 4.22.0-rc.1-x86_64 4.18.1-aarch64 4.18.1-multi") {
			all = append(all, cluster.Release{Repository: "openshift/release-images", Tag: tag})
		}
		all = append(all, cluster.Release{Repository: "openshift/release-images", Tag: strings.Repeat("0", 64)}) // by digest
		equalPrefix(t, ask, chosen(cluster.Choose(all, w)), want)
	}
	equal(t, "nothing mirrored", chosen(cluster.Choose(nil, cluster.Wish{Version: "4.20"})), " for 4.20")
	equal(t, "nothing at all", chosen(cluster.Choose(nil, cluster.Wish{})), "error: no release was mirrored into this appliance, and no version is named; "+
		"name the version to install, such as --version 4.20, or mirror one first: appliance mirror -c imageset.yaml …")
}

func chosen(r cluster.Release, v cluster.Version, err error) string {
	if err != nil {
		return "error: " + err.Error() + "; " + hint.Of(err)
	}
	return r.Tag + " for " + v.String()
}

func equalPrefix(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want && !(strings.HasPrefix(want, "error") && strings.HasPrefix(got, want)) {
		t.Errorf("%q: got %s\nwant %s", what, got, want)
	}
}

func TestAuth(t *testing.T) {
	for secret, want := range map[string]string{
		`{"auths":{"` + address + `":{"auth":"` + secretAuth + `"}}}`:                    secretAuth + " puller",
		`{"auths":{"other":{"auth":"` + secretAuth + `"}}}`:                              " ",
		`{"auths":{"` + address + `":{"auth":"AAAA"}}}`:                                  "error: the auth of " + address + " is not that of a user and a password",
		`{"auths":{"` + address + `":{"auth":"` + cluster.NewAuth("puller", "") + `"}}}`: "error: the auth of " + address + " is not that of a user and a password",
		`{"auths":{"` + address + `":{"auth":"s3cret"`:                                   "error: it is not a pull secret, JSON with auths",
		`{"auths":{"` + address + `":{"auth":"` + cluster.NewAuth("ci", "a:b") + `"}}}`:  "Y2k6YTpi ci",
		`{"auths":{"` + address + `":{"username":"puller","password":"s3cret"}}}`:        secretAuth + " puller",
		`{"auths":{"https://` + address + `/v1/":{"auth":"` + secretAuth + `"}}}`:        secretAuth + " puller",
		`{"auths":{"` + address + `":{"username":"puller"}}}`:                            "error: the auth of " + address + " is not that of a user and a password",
		`{"auths":{},"credsStore":"none","credHelpers":{"` + address + `":"none"}}`:      " ",
	} {
		auth, user, err := cluster.Auth([]byte(secret), address)
		got := auth + " " + user
		if err != nil {
			got = "error: " + err.Error()
		}
		equal(t, secret, got, want)
	}
	auth, _, err := cluster.Auth([]byte(`{"auths":{"mirror.example.com:443":{"auth":"`+secretAuth+`"}}}`), "mirror.example.com")
	if auth != secretAuth || err != nil {
		t.Errorf("with the port of HTTPS: %q, %v", auth, err)
	}
}
