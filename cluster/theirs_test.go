package cluster_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
)

var ofTheirs = `apiVersion: v1
imageDigestSources:
- source: quay.io/openshift-release-dev/ocp-release
  mirrors: [old.example.com/release]
- source: corp.example.com/x
  mirrors: [m.example.com/x]
  sourcePolicy: NeverContactSource
additionalTrustBundlePolicy: Proxyonly
pullSecret: '{"auths":{"m.example.com":{"auth":"eDp5"},"` + address + `":{"auth":"eDp5"}},"credHelpers":{"x.io":"ecr"},"extra":1}'
additionalTrustBundle: |
  # of the company
  ` + indented(certificate(3)) + `
sshKey: 'ssh-ed25519 AAAA'
`

func withTheirs(t *testing.T, minor int, text string) cluster.Facts {
	t.Helper()
	f := facts(t, 4, minor)
	f.InstallConfig, f.ZeroTouch = []byte(text), true
	return f
}

// oc gets what nodes get: the user's CAs, logins and sources too. The cluster has them from
// install-config.yaml; the mirror sets are about the appliance alone.
func TestInstallConfig_ocGetsWhatNodesGet(t *testing.T) {
	m := files(t, withTheirs(t, 17, ofTheirs))
	c := m.installConfig(t)
	both := string(certificate(3)) + string(certificate(1))
	equal(t, "install-config.yaml", c.Bundle, "# of the company\n"+both)
	for _, name := range []string{"ca-bundle.pem", "mirror/ca-bundle.crt"} {
		equal(t, name, string(m[name].Data), both)
	}
	equal(t, "user-ca-bundle", m.documents(t, "day2/25-user-ca-bundle.yaml")[0].Data["ca-bundle.crt"], both)
	equal(t, "registry-config", m.documents(t, "day2/10-registry-config.yaml")[0].Data["updateservice-registry"], string(certificate(1)))
	equal(t, "pull-secret.json", string(m["pull-secret.json"].Data), c.PullSecret+"\n")
	equal(t, "oc/idms.yaml", of(m.documents(t, "oc/idms.yaml")[0].Spec.ByDigest, "corp.example.com/x"), "m.example.com/x")
	equal(t, "zero touch", pulls(t, m["mirror/registries.conf"], "corp.example.com/x@"+string(payload)), "[m.example.com/x@DIGEST corp.example.com/x@DIGEST] true")
	for _, name := range []string{"openshift/idms.yaml", "day2/60-idms.yaml"} {
		if strings.Contains(string(m[name].Data), "m.example.com") {
			t.Errorf("%s has the mirrors of the user:\n%s", name, m[name].Data)
		}
	}
	if lines := strings.Split(string(certificate(3)), "\n"); strings.Contains(string(m["apply.sh"].Data), lines[len(lines)-4]) {
		t.Error("apply.sh looks for the CA of the user")
	}
}

// A mirror without a CA leaves the configuration of the cluster's CAs alone.
func TestInstallConfig_CAOfTheUserAlone(t *testing.T) {
	f := withTheirs(t, 17, ofTheirs)
	f.Registries[0].CA = nil
	m := files(t, f)
	equal(t, "ca-bundle.pem", len(m["ca-bundle.pem"].Data) > 0 && strings.Contains(string(m["install.sh"].Data), "SSL_CERT_FILE="), true)
	equal(t, "day2", strings.Contains(string(m["apply.sh"].Data), "registry-config") || m["day2/10-registry-config.yaml"].Data != nil, false)
}

// What is left out of a user's file is told.
func TestInstallConfig_leftOut(t *testing.T) {
	for minor, want := range map[int]string{
		17: `install-config.yaml: quay.io/openshift-release-dev/ocp-release is read at ` + address + `/openshift/release-images, and no more at old.example.com/release
install-config.yaml: sourcePolicy NeverContactSource of corp.example.com/x is left out: OpenShift 4.17 does not know it (4.21 does)
install-config.yaml: additionalTrustBundlePolicy is Always in place of Proxyonly, with which the cluster uses the CAs for a proxy only
install-config.yaml: pullSecret has auths alone, and no more credHelpers, extra
install-config.yaml: pullSecret has another login for ` + address + ` than before, that of the nodes`,
		21: `install-config.yaml: sourcePolicy NeverContactSource of quay.io/openshift-release-dev/ocp-release is left out: --never-contact-source sets it`,
	} {
		text := ofTheirs
		if minor == 21 {
			text = strings.NewReplacer("old.example.com/release]", address+"/openshift/release-images]\n  sourcePolicy: NeverContactSource",
				"Proxyonly", "Always", `,"credHelpers":{"x.io":"ecr"},"extra":1`, "", `"`+address+`":{"auth":"eDp5"}`, `"b":{}`).Replace(text)
		}
		f := withTheirs(t, minor, text)
		r, err := cluster.Render(f)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "warnings", strings.Join(r.Warnings, "\n"), want)
		for _, file := range r.Files {
			if file.Name == "install-config.yaml" {
				f.InstallConfig = file.Data
			}
		}
		if r, err = cluster.Render(f); err != nil || len(r.Warnings) > 0 {
			t.Errorf("once more: %q, %v", r.Warnings, err)
		}
	}
}

// Ends of lines and of the document are as the other lines.
func TestInstallConfig_ends(t *testing.T) {
	want := files(t, withTheirs(t, 20, ofTheirs))["install-config.yaml"].Data
	for name, text := range map[string]string{
		"CRLF":               strings.ReplaceAll(ofTheirs, "\n", "\r\n"),
		"...":                ofTheirs + "...\n",
		"--- and no newline": ofTheirs + "---",
	} {
		got := files(t, withTheirs(t, 20, text))["install-config.yaml"].Data
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}
