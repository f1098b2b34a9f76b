package cluster_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Step 6: what an installation applies, of what the version knows.
func TestManifests_extra(t *testing.T) {
	for v, want := range map[cluster.Version]string{
		{Major: 4, Minor: 12}: "cs-redhat-operator-index-v4-20.yaml icsp.yaml signature-configmap.yaml",
		{Major: 4, Minor: 17}: "cs-redhat-operator-index-v4-20.yaml idms.yaml itms.yaml signature-configmap.yaml",
		{Major: 4, Minor: 18}: "cc-redhat-operator-index-v4-20.yaml cs-redhat-operator-index-v4-20.yaml idms.yaml itms.yaml signature-configmap.yaml",
		{Major: 5, Minor: 0}:  "cc-redhat-operator-index-v4-20.yaml cs-redhat-operator-index-v4-20.yaml idms.yaml itms.yaml signature-configmap.yaml",
	} {
		equal(t, v.String(), strings.Join(files(t, facts(t, v.Major, v.Minor)).names("openshift/"), " "), want)
	}
}

// Mirror sets exist from 4.13 on, ICSP before; only one of them is written.
func TestManifests_policiesBefore413(t *testing.T) {
	m := files(t, facts(t, 4, 12))
	policies := map[string]string{}
	for _, o := range m.documents(t, "openshift/icsp.yaml") {
		equal(t, "the kind", o.APIVersion+" "+o.Kind, "operator.openshift.io/v1alpha1 ImageContentSourcePolicy")
		for _, s := range o.Spec.Policy {
			policies[s.Source] = strings.Join(s.Mirrors, " ")
		}
	}
	equal(t, "components", policies[vendor+"ocp-v4.0-art-dev"], address+"/openshift/release")
	equal(t, "a namespace", policies["registry.redhat.io/op"], address+"/op")
	r, err := cluster.Render(facts(t, 4, 12))
	if err != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), "no mirrors for tags") {
		t.Errorf("it warns %q, %v", r.Warnings, err)
	}
	names := map[string]bool{}
	for _, o := range slices.Concat(files(t, facts(t, 4, 13)).documents(t, "openshift/idms.yaml"), files(t, facts(t, 4, 13)).documents(t, "openshift/itms.yaml")) {
		names[o.Kind+"/"+o.Metadata.Name] = true
	}
	equal(t, "the mirror sets", strings.Join(slices.Sorted(maps.Keys(names)), " "),
		"ImageDigestMirrorSet/idms-operator-0 ImageDigestMirrorSet/idms-release-0 ImageTagMirrorSet/itms-generic-0 ImageTagMirrorSet/itms-release-0")
}

// Step 3: --idms-file, and --icsp-file with oc up to 4.14.
func TestOC_mirrorFiles(t *testing.T) {
	for minor, want := range map[int]string{14: "icsp.yaml idms.yaml", 15: "idms.yaml"} {
		m := files(t, facts(t, 4, minor))
		equal(t, "the files for oc", strings.Join(m.names("oc/"), " "), want)
		all := m.documents(t, "oc/idms.yaml")
		if len(all) != 1 || all[0].Kind != "ImageDigestMirrorSet" || len(all[0].Spec.ByDigest) != 2 {
			t.Errorf("oc reads one document with the repositories of the release, not %+v", all)
		}
	}
}

// Step 10.
func TestDayTwo_order(t *testing.T) {
	m := files(t, facts(t, 4, 20))
	want := []string{"ConfigMap registry-config", "Image cluster", "ConfigMap user-ca-bundle", "Proxy cluster", "OperatorHub cluster",
		"ImageDigestMirrorSet", "ImageTagMirrorSet", "CatalogSource", "ClusterCatalog", "ConfigMap mirrored-release-signatures"}
	var got []string
	for _, name := range m.names("day2/") {
		o := m.documents(t, "day2/"+name)[0]
		what := o.Kind
		if o.Kind == "ConfigMap" || o.Metadata.Name == "cluster" {
			what += " " + o.Metadata.Name
		}
		got = append(got, what)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the order is %q", got)
	}
	equal(t, "the CAs of registries", m.documents(t, "day2/20-image-config.yaml")[0].Spec.Rest["additionalTrustedCA"].(map[string]any)["name"], any("registry-config"))
	equal(t, "the CA of the proxy", m.documents(t, "day2/30-proxy.yaml")[0].Spec.Rest["trustedCA"].(map[string]any)["name"], any("user-ca-bundle"))
	equal(t, "the default sources", m.documents(t, "day2/40-operatorhub.yaml")[0].Spec.Rest["disableAllDefaultSources"], any(true))
}

// Step 10: HOST..PORT, and updateservice-registry; in openshift-config.
func TestDayTwo_keysOfRegistryConfig(t *testing.T) {
	o := files(t, facts(t, 4, 20)).documents(t, "day2/10-registry-config.yaml")[0]
	equal(t, "the namespace", o.Metadata.Namespace, "openshift-config")
	equal(t, "the keys", strings.Join(slices.Sorted(maps.Keys(o.Data)), " "), "mirror.example.com..8443 updateservice-registry")
	for key, ca := range o.Data {
		equal(t, key, ca, string(certificate(1)))
	}
	f := facts(t, 4, 20)
	f.Registries[0].Address, f.Resources = "mirror.example.com", nil
	if o := files(t, f).documents(t, "day2/10-registry-config.yaml")[0]; o.Data["mirror.example.com"] == "" {
		t.Errorf("without a port the keys are %v", slices.Sorted(maps.Keys(o.Data)))
	}
}

// Step 10: signatures come from the appliance's resources, as they are.
func TestDayTwo_signatures(t *testing.T) {
	f := facts(t, 4, 20)
	o := files(t, f).documents(t, "day2/80-signature-configmap.yaml")[0]
	equal(t, "the namespace", o.Metadata.Namespace, "openshift-config-managed")
	if o.BinaryData["sha256-"+payload.Encoded()+"-1"] == nil {
		t.Errorf("the keys are %v", o.BinaryData)
	}
}

// Step 11.
func TestUpdates_operator(t *testing.T) {
	m := files(t, facts(t, 4, 20))
	var got []string
	for _, o := range m.documents(t, "updates/10-operator.yaml") {
		got = append(got, o.Kind+" "+o.Metadata.Namespace)
		if o.Kind == "Subscription" {
			equal(t, "the channel", o.Spec.Rest["channel"], any("v1"))
			equal(t, "the operator", o.Spec.Rest["name"], any("cincinnati-operator"))
			equal(t, "the catalog", o.Spec.Rest["source"], any("cs-redhat-operator-index-v4-20"))
		}
	}
	equal(t, "the operator", strings.Join(got, ", "), "Namespace , OperatorGroup openshift-update-service, Subscription openshift-update-service")
	o := m.documents(t, "updates/20-update-service.yaml")[0]
	equal(t, "the graph", o.Spec.Rest["graphDataImage"], any(address+"/openshift/graph-image:latest"))
	equal(t, "the releases", o.Spec.Rest["releases"], any(address+"/openshift/release-images"))
	f := facts(t, 4, 20)
	f.Resources = render(t, resources.Mirrored{})
	if all := files(t, f).names("updates"); len(all) > 0 {
		t.Errorf("without a graph: %v", all)
	}
}

// A login is in files of their own permissions, and nowhere else.
func TestRender_secrets(t *testing.T) {
	f := facts(t, 4, 20)
	f.ZeroTouch = true
	theirFile := f
	theirFile.InstallConfig = []byte("apiVersion: v1\n")
	if file := files(t, theirFile)["install-config.yaml"]; !file.Secret || !strings.Contains(string(file.Data), secretAuth) {
		t.Errorf("a file of the user's: secret is %v", file.Secret)
	}
	var secret []string
	for name, file := range files(t, f) {
		has := strings.Contains(string(file.Data), secretAuth) || strings.Contains(string(file.Data), "s3cret")
		if has != file.Secret {
			t.Errorf("%s: secret is %v", name, file.Secret)
		}
		if has {
			secret = append(secret, name)
		}
	}
	slices.Sort(secret)
	equal(t, "the files with a secret", strings.Join(secret, " "), "install-config.yaml pull-secret.json")
}

// A key must not go to every node.
func TestRender_refusesAKeyForACA(t *testing.T) {
	for text, want := range map[string]string{
		"-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n": "it has a private key in it",
		"not a certificate": "no certificate in PEM form",
	} {
		f := facts(t, 4, 20)
		f.Registries[0].CA = []byte(text)
		if _, err := cluster.Render(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}
