package cluster_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// Agent-based installation, step 1: one line, and the mirror's entry alone.
func TestInstallConfig_pullSecretIsOneLineOfTheMirror(t *testing.T) {
	c := files(t, facts(t, 4, 20)).installConfig(t)
	equal(t, "the pull secret", c.PullSecret, `{"auths":{"`+address+`":{"auth":"`+secretAuth+`"}}}`)
}

// Step 5.
func TestInstallConfig_trustBundlePolicyIsAlways(t *testing.T) {
	m := files(t, facts(t, 4, 20))
	c := m.installConfig(t)
	equal(t, "the policy", c.Policy, "Always")
	equal(t, "the bundle", c.Bundle, string(certificate(1)))
	f := facts(t, 4, 20)
	f.Registries[0].CA = nil
	c = files(t, f).installConfig(t)
	equal(t, "without a CA", c.Policy+c.Bundle, "")
}

// Step 5: imageContentSources up to 4.13, never both.
func TestInstallConfig_oneKeyForSources(t *testing.T) {
	for _, v := range []struct{ major, minor int }{{4, 12}, {4, 13}, {4, 14}, {4, 20}, {5, 0}} {
		c := files(t, facts(t, v.major, v.minor)).installConfig(t)
		digests := v.major > 4 || v.minor >= 14
		if digests != (len(c.Digests) > 0) || digests == (len(c.Contents) > 0) {
			t.Errorf("%v: %d imageDigestSources and %d imageContentSources", v, len(c.Digests), len(c.Contents))
		}
	}
}

// Step 5: the installer compares repositories.
func TestInstallConfig_sourcesAreRepositories(t *testing.T) {
	f := facts(t, 4, 20)
	f.Upstreams = []cluster.Upstream{{Prefix: "quay.io", URL: "https://quay.io"}}
	f.Resources = nil
	c := files(t, f).installConfig(t)
	if len(c.Digests) != 2 {
		t.Errorf("the sources are %v", c.Digests)
	}
	for _, repository := range []string{"ocp-release", "ocp-v4.0-art-dev"} {
		equal(t, repository, of(c.Digests, vendor+repository), address+"/"+vendor+repository)
	}
	c = files(t, facts(t, 4, 20)).installConfig(t)
	if len(c.Digests) != 2 {
		t.Errorf("the sources are %v", c.Digests)
	}
	equal(t, "releases", of(c.Digests, vendor+"ocp-release"), address+"/openshift/release-images")
	equal(t, "components", of(c.Digests, vendor+"ocp-v4.0-art-dev"), address+"/openshift/release")
}

// Step 5: 5.x also has ocp-v5.0-art-dev.
func TestInstallConfig_componentsOf5(t *testing.T) {
	m := files(t, facts(t, 5, 0))
	equal(t, "install-config.yaml", of(m.installConfig(t).Digests, vendor+"ocp-v5.0-art-dev"), address+"/openshift/release")
	equal(t, "the mirror set", of(m.documents(t, "openshift/idms.yaml")[0].Spec.ByDigest, vendor+"ocp-v5.0-art-dev"), address+"/openshift/release")
	equal(t, "4.20", of(files(t, facts(t, 4, 20)).installConfig(t).Digests, vendor+"ocp-v5.0-art-dev"), "")
	f := facts(t, 5, 0)
	f.Resources, f.Upstreams = nil, []cluster.Upstream{{Prefix: "mirrors/q", URL: "https://quay.io"}}
	equal(t, "pulled through", of(files(t, f).installConfig(t).Digests, vendor+"ocp-v5.0-art-dev"), address+"/mirrors/q/"+vendorPath+"ocp-v5.0-art-dev")
}

const vendorPath = "openshift-release-dev/"

// Step 5: sourcePolicy exists from 4.21 on.
func TestInstallConfig_sourcePolicyFrom421(t *testing.T) {
	for minor, want := range map[int]string{20: "", 21: "NeverContactSource"} {
		f := facts(t, 4, minor)
		f.NeverContactSource = true
		m := files(t, f)
		equal(t, "install-config.yaml", m.installConfig(t).Digests[0].SourcePolicy, want)
		equal(t, "the mirror set", m.documents(t, "openshift/idms.yaml")[0].Spec.ByDigest[0].MirrorPolicy, "NeverContactSource")
		equal(t, "unasked", files(t, facts(t, 4, minor)).installConfig(t).Digests[0].SourcePolicy, "")
		r, err := cluster.Render(f)
		if err != nil || (want == "") != strings.Contains(strings.Join(r.Warnings, "\n"), "no sourcePolicy") {
			t.Errorf("4.%d warns %q, %v", minor, r.Warnings, err)
		}
	}
}

// Step 5: only the first mirror of an entry is used, which is said where it matters.
func TestInstallConfig_firstMirrorOnly(t *testing.T) {
	f := facts(t, 4, 20)
	f.Registries = append(f.Registries, cluster.Registry{Address: second, CA: certificate(2), Auth: secretAuth})
	r, err := cluster.Render(f)
	if err != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), "uses the first mirror of an entry in install-config.yaml") {
		t.Errorf("it warns %q, %v", r.Warnings, err)
	}
	m := files(t, f)
	if text := string(m["install-config.yaml"].Data); !strings.Contains(text, "# Only the first mirror of an entry is used") {
		t.Errorf("there is no comment in\n%s", text)
	}
	c := m.installConfig(t)
	equal(t, "the mirrors", of(c.Digests, vendor+"ocp-release"), address+"/openshift/release-images "+second+"/openshift/release-images")
	equal(t, "the bundle", c.Bundle, string(certificate(1))+string(certificate(2)))
	equal(t, "the pull secret", strings.Count(c.PullSecret, secretAuth), 2)
}

// Step 6: v1beta1, older v1alpha1.
func TestAgentConfig_version(t *testing.T) {
	for minor, want := range map[int]string{12: "v1alpha1", 13: "v1beta1", 20: "v1beta1"} {
		o := files(t, facts(t, 4, minor)).documents(t, "agent-config.yaml")[0]
		equal(t, "the kind", o.Kind, "AgentConfig")
		equal(t, "the version", o.APIVersion, want)
		equal(t, "the name", o.Metadata.Name, "cluster")
	}
	if _, err := cluster.Render(facts(t, 4, 11)); err == nil || !strings.Contains(err.Error(), "4.11 has no agent-based installer") {
		t.Errorf("4.11: %v", err)
	}
}

var theirs = `# of team A
apiVersion: v1
imageContentSources:
- source: quay.io/openshift-release-dev/ocp-release
  mirrors: [old.example.com/release]
- source: example.com/kept
  mirrors:
  - old.example.com/kept

# where it is
baseDomain:   "example.com"   # ours
pullSecret: '{"auths":{"kept.example.com":{"auth":"a2VwdDprZXB0"}}}'
metadata: {name: prod}
additionalTrustBundle: |
  ` + indented(certificate(3)) + `
sshKey: 'ssh-ed25519 AAAA'
# the end
`

// Keys about the mirror are put in; the lines of all others are as they were.
func TestInstallConfig_ofTheUser(t *testing.T) {
	f := facts(t, 4, 20)
	f.InstallConfig = []byte(theirs)
	m := files(t, f)
	text := string(m["install-config.yaml"].Data)
	const rest = "# of team A\napiVersion: v1\n\n# where it is\nbaseDomain:   \"example.com\"   # ours\nmetadata: {name: prod}\nsshKey: 'ssh-ed25519 AAAA'\n# the end\n"
	if !strings.HasPrefix(text, rest+"pullSecret:") {
		t.Errorf("it begins with\n%s", text)
	}
	c := m.installConfig(t)
	equal(t, "the content sources", len(c.Contents), 0)
	equal(t, "the kept source", of(c.Digests, "example.com/kept"), "old.example.com/kept")
	equal(t, "the replaced source", of(c.Digests, vendor+"ocp-release"), address+"/openshift/release-images")
	equal(t, "the pull secret", c.PullSecret, `{"auths":{"kept.example.com":{"auth":"a2VwdDprZXB0"},"`+address+`":{"auth":"`+secretAuth+`"}}}`)
	equal(t, "the bundle", c.Bundle, string(certificate(3))+string(certificate(1)))
	equal(t, "the name in agent-config.yaml", m.documents(t, "agent-config.yaml")[0].Metadata.Name, "prod")

	again := facts(t, 4, 20)
	again.InstallConfig = m["install-config.yaml"].Data
	equal(t, "completed once more", string(files(t, again)["install-config.yaml"].Data), text)
}

func TestInstallConfig_ofTheUserIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{apiVersion: v1, baseDomain: x}\n":                   "not a mapping with one key on each line",
		"apiVersion: v1\nbaseDomain: [\n":                     "not valid YAML",
		"apiVersion: v1\n---\na: b\n":                         "second YAML document",
		"sshKey: &s '{}'\npullSecret: &s ''\nother: *s\n":     "without changing others",
		"pullSecret: &s ''\napiVersion: v1\nother: *s\n":      "without changing others",
		"apiVersion: v1\nimageDigestSources: of the others\n": "not an install-config.yaml",
		"":                                 "complete install-config.yaml: the file is empty",
		"\tapiVersion: v1\n":               "complete install-config.yaml: not valid YAML: ",
		"  apiVersion: v1\n  sshKey: x\n":  "line 1: its keys are indented",
		"apiVersion: v1\napiVersion: v1\n": `not an install-config.yaml: line 2: mapping key "apiVersion" already defined at line 1`,
		"pullSecret: {auths: {}}\n":        "not an install-config.yaml: line 1: cannot unmarshal !!map into string",
		"apiVersion: v1\npullSecret: '{\"auths\":{\"a\":{\"auth\":\"eDp5\"'\n": "line 2: pullSecret is not a pull secret, JSON with auths",
		"pullSecret: '{}'\n":                     "line 1: pullSecret is not a pull secret, JSON with auths",
		"a: b\nadditionalTrustBundle: garbage\n": "line 2: additionalTrustBundle: no certificate in PEM form in it",
		"a: b\nadditionalTrustBundle: |\n  -----BEGIN CERTIFICATE-----\n  AAEC\n  -----END CERTIFICATE-----\n": "line 2: additionalTrustBundle: certificate 1 in it: x509: malformed certificate",
		"a: b\nadditionalTrustBundle: |\n" + damaged:                                                           "line 2: additionalTrustBundle: of 2 certificates in it 1 cannot be read",
		"apiVersion: v1\nbaseDomain: x\nadditionalTrustBundle: {a: b}\n":                                       "not an install-config.yaml",
	} {
		f := facts(t, 4, 20)
		f.InstallConfig = []byte(text)
		if _, err := cluster.Render(f); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || hint.Of(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// damaged are two certificates, of which one was cut off in copying.
var damaged = "  -----BEGIN CERTIFICATE-----\n  AAEC\n  " + indented(certificate(3)) + "\n"

// indented returns a text as the rest of a block of YAML.
func indented(text []byte) string {
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n  ")
}

// What the user is to fill in is marked, and nothing else than that is wrong with the file.
func TestInstallConfig_marks(t *testing.T) {
	m := files(t, facts(t, 4, 20))
	var c map[string]any
	if err := yaml.Unmarshal(m["install-config.yaml"].Data, &c); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"apiVersion", "baseDomain", "metadata", "controlPlane", "compute", "networking", "platform", "sshKey", "pullSecret"} {
		if c[key] == nil {
			t.Errorf("there is no %s", key)
		}
	}
	for _, line := range strings.Split(string(m["install-config.yaml"].Data), "\n") {
		if strings.Contains(line, "192.0.2.") != (strings.Contains(line, "192.0.2.") && strings.Contains(line, "FILL-IN")) {
			t.Errorf("not marked: %s", line)
		}
	}
}
