package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
)

const third = "third.example.com"

// three are facts with two appliances besides the first, each with a CA and a login of its own.
func three(t *testing.T, major, minor int) cluster.Facts {
	t.Helper()
	f := facts(t, major, minor)
	f.ZeroTouch = true
	f.Registries = append(f.Registries,
		cluster.Registry{Address: second, CA: certificate(2), Auth: cluster.NewAuth("puller", "of the second")},
		cluster.Registry{Address: third, CA: certificate(3), Auth: cluster.NewAuth("puller", "of the third")})
	return f
}

// mirrorSets returns the sources of all mirror sets in a file, and the names of the sets.
func (m made) mirrorSets(t *testing.T, file string) (names []string, all []source) {
	t.Helper()
	for _, o := range m.documents(t, file) {
		names = append(names, o.Kind+"/"+o.Metadata.Name)
		all = slices.Concat(all, o.Spec.ByDigest, o.Spec.ByTag, o.Spec.Policy)
	}
	return names, all
}

// Each list of mirrors has the first appliance, then the others in their order, at the same place, in the files
// of each version.
func TestOthers_eachListOfMirrors(t *testing.T) {
	for v, want := range map[cluster.Version]string{
		{Major: 4, Minor: 12}: "openshift/icsp.yaml day2/60-icsp.yaml oc/idms.yaml oc/icsp.yaml",
		{Major: 4, Minor: 13}: "openshift/idms.yaml openshift/itms.yaml day2/60-idms.yaml day2/60-itms.yaml oc/idms.yaml oc/icsp.yaml",
		{Major: 4, Minor: 20}: "openshift/idms.yaml openshift/itms.yaml day2/60-idms.yaml day2/60-itms.yaml oc/idms.yaml",
		{Major: 5, Minor: 0}:  "openshift/idms.yaml openshift/itms.yaml day2/60-idms.yaml day2/60-itms.yaml oc/idms.yaml",
	} {
		f := three(t, v.Major, v.Minor)
		f.Upstreams = []cluster.Upstream{{Prefix: "quay.io", URL: "https://quay.io"}}
		m := files(t, f)
		lists := map[string][]source{"install-config.yaml": append(m.installConfig(t).Digests, m.installConfig(t).Contents...)}
		for name := range strings.FieldsSeq(want) {
			_, lists[name] = m.mirrorSets(t, name)
		}
		for name, all := range lists {
			if len(all) < 2 {
				t.Errorf("%s of %s has %v", name, v, all)
			}
			for _, s := range all {
				var places []string
				for n := 0; n < len(s.Mirrors); n += 3 {
					path := strings.TrimPrefix(s.Mirrors[n], address)
					places = append(places, address+path, second+path, third+path)
				}
				if !slices.Equal(s.Mirrors, places) {
					t.Errorf("%s of %s: %s is at %q", name, v, s.Source, s.Mirrors)
				}
			}
		}
	}
}

// Hosts with podman, and zero-touch provisioning, ask them in the same order.
func TestOthers_registriesConf(t *testing.T) {
	m := files(t, three(t, 4, 20))
	for _, conf := range []string{"registries.conf", "mirror/registries.conf"} {
		equal(t, conf, strings.ReplaceAll(pulls(t, m[conf], vendor+"ocp-release@"+string(payload)), third, "THIRD"),
			"[FIRST/openshift/release-images@DIGEST SECOND/openshift/release-images@DIGEST THIRD/openshift/release-images@DIGEST quay.io/openshift-release-dev/ocp-release@DIGEST] false")
	}
	equal(t, "by tag", strings.ReplaceAll(pulls(t, m["registries.conf"], "quay.io/team/app:v1"), third, "THIRD"),
		"[FIRST/team/app:v1 SECOND/team/app:v1 THIRD/team/app:v1 quay.io/team/app:v1] false")
	for _, r := range []string{address, second, third} {
		if text := string(m["registries.conf"].Data); !strings.Contains(text, "/etc/containers/certs.d/"+r+"/ca.crt\n") {
			t.Errorf("registries.conf does not tell where the CA of %s goes:\n%s", r, text)
		}
	}
}

// Catalogs, the image of the graph and the release that openshift-install was taken from are named by the first
// appliance: those are at the others too. The name is not blocked where sources must not be asked, since
// that would block the mirror of this name.
func TestOthers_imagesNamedByTheFirst(t *testing.T) {
	for _, never := range []bool{false, true} {
		f := three(t, 4, 20)
		f.NeverContactSource = never
		m := files(t, f)
		for _, image := range []string{"/redhat/redhat-operator-index:v4.20", "/openshift/graph-image:latest", "/openshift/release-images@DIGEST"} {
			want := fmt.Sprintf("[FIRST%[1]s SECOND%[1]s THIRD%[1]s FIRST%[1]s] false", image)
			got := pulls(t, m["registries.conf"], address+strings.Replace(image, "DIGEST", string(payload), 1))
			equal(t, image, strings.ReplaceAll(got, third, "THIRD"), want)
		}
		for _, file := range []string{"openshift/idms.yaml", "openshift/itms.yaml"} {
			_, all := m.mirrorSets(t, file)
			equal(t, file, of(all, address), strings.Join([]string{address, second, third}, " "))
			for _, s := range all {
				if want := map[bool]string{true: "NeverContactSource"}[never && s.Source != address]; s.MirrorPolicy != want {
					t.Errorf("%s: the policy of %s is %q, and not %q", file, s.Source, s.MirrorPolicy, want)
				}
			}
		}
		equal(t, "while it is installed", of(m.installConfig(t).Digests, address), "")
	}
	_, all := files(t, facts(t, 4, 20)).mirrorSets(t, "openshift/idms.yaml")
	equal(t, "with one appliance", of(all, address), "")
}

// What the appliance serves is applied to a cluster later, and names one mirror: no set of it takes the place of
// one with all mirrors.
func TestOthers_setsOfTheApplianceTakeNoneAway(t *testing.T) {
	for minor, names := range map[int][]string{12: {"openshift/icsp.yaml"}, 20: {"openshift/idms.yaml", "openshift/itms.yaml"}} {
		served, also := files(t, facts(t, 4, minor)), files(t, three(t, 4, minor))
		for _, name := range names {
			those, _ := served.mirrorSets(t, name)
			these, _ := also.mirrorSets(t, name)
			if len(these) != len(those)+1 {
				t.Errorf("%s has the sets %q, and with others %q", name, those, these)
			}
			for _, one := range these {
				if slices.Contains(those, one) {
					t.Errorf("%s has a set %s, as the appliance serves one", name, one)
				}
			}
		}
	}
}

// Nodes trust each appliance and have a login for each.
func TestOthers_certificatesAndLogins(t *testing.T) {
	m := files(t, three(t, 4, 20))
	cas := string(certificate(1)) + string(certificate(2)) + string(certificate(3))
	for _, name := range []string{"ca-bundle.pem", "mirror/ca-bundle.crt"} {
		equal(t, name, string(m[name].Data), cas)
	}
	equal(t, "additionalTrustBundle", m.installConfig(t).Bundle, cas)
	equal(t, "user-ca-bundle", m.documents(t, "day2/25-user-ca-bundle.yaml")[0].Data["ca-bundle.crt"], cas)
	data := m.documents(t, "day2/10-registry-config.yaml")[0].Data
	for key, want := range map[string]string{"updateservice-registry": cas, "mirror.example.com..8443": string(certificate(1)),
		"other.example.com..8443": string(certificate(2)), third: string(certificate(3))} {
		equal(t, key, data[key], want)
	}
	for _, secret := range []string{m.installConfig(t).PullSecret, string(m["pull-secret.json"].Data)} {
		for registry, want := range map[string]string{address: secretAuth, second: cluster.NewAuth("puller", "of the second"), third: cluster.NewAuth("puller", "of the third")} {
			got, _, err := cluster.Auth([]byte(secret), registry)
			if err != nil || got != want {
				t.Errorf("the login for %s is %q, %v", registry, got, err)
			}
		}
	}
}

// All other files are as those with one appliance.
func TestOthers_otherFiles(t *testing.T) {
	one := facts(t, 4, 20)
	one.ZeroTouch = true
	before, after := files(t, one), files(t, three(t, 4, 20))
	var differ []string
	for name, file := range after {
		if string(file.Data) != string(before[name].Data) {
			differ = append(differ, name)
		}
	}
	slices.Sort(differ)
	equal(t, "the files", len(after), len(before))
	equal(t, "those that differ", strings.Join(differ, " "), "README.txt apply.sh ca-bundle.pem day2/10-registry-config.yaml "+
		"day2/25-user-ca-bundle.yaml day2/60-idms.yaml day2/60-itms.yaml install-config.yaml mirror/ca-bundle.crt mirror/registries.conf "+
		"oc/idms.yaml openshift/idms.yaml openshift/itms.yaml pull-secret.json registries.conf")
}

// A cluster that asks an appliance for updates keeps the CAs of all.
func TestOthers_updates(t *testing.T) {
	for _, operator := range []bool{false, true} {
		text, _, err := cluster.UpdateResources(three(t, 4, 20), operator)
		if err != nil {
			t.Fatal(err)
		}
		m := made{"updates": {Data: text}}
		found := map[string]string{}
		for _, o := range m.documents(t, "updates") {
			for key, value := range o.Data {
				found[o.Metadata.Name+" "+key] = value
			}
			if o.Kind == "ClusterVersion" {
				equal(t, "the upstream", o.Spec.Rest["upstream"], any("https://"+address+"/api/upgrades_info/v1/graph"))
			}
		}
		want := map[string]string{"user-ca-bundle ca-bundle.crt": string(certificate(1)) + string(certificate(2)) + string(certificate(3))}
		if operator {
			want = map[string]string{"registry-config other.example.com..8443": string(certificate(2)), "registry-config " + third: string(certificate(3))}
		}
		for key, ca := range want {
			equal(t, key, found[key], ca)
		}
	}
}

// Nodes that are asked about with these facts look at all mirrors, and may ask the first by its own name.
func TestOthers_sources(t *testing.T) {
	f := three(t, 4, 21)
	f.NeverContactSource = true
	installing, running, err := f.Sources()
	if err != nil {
		t.Fatal(err)
	}
	for what, all := range map[string]cluster.Sources{"installing": installing, "running": running} {
		places := strings.Join(all.Places(vendor+"ocp-release"), " ")
		equal(t, what, places, address+"/openshift/release-images "+second+"/openshift/release-images "+third+"/openshift/release-images")
	}
	own, _ := running.Of(address + "/redhat/redhat-operator-index")
	equal(t, "the first by its own name", fmt.Sprint(own), fmt.Sprintf("{%s [%s %s %s] false}", address, address, second, third))
}
