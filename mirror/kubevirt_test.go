package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
)

// Spec: oc-mirror 4.7, 4.8.
func TestRun_kubeVirtContainer(t *testing.T) {
	src := newSource(t)
	for platform, want := range map[string]string{
		"channels: [{name: stable-4.18}]":                                                "openshift/release:4.18.3-x86_64-kube-virt-container",
		"release: 'HOST/openshift-release-dev/ocp-release:4.18.2-x86_64'":                "openshift/release:4.18.2-x86_64-kube-virt-container",
		"architectures: [multi], channels: [{name: stable-4.18}]":                        "openshift/release:4.18.3-multi-kube-virt-container-x86_64",
		"architectures: [amd64, s390x], channels: [{name: stable-4.18}]":                 "openshift/release:4.18.3-x86_64-kube-virt-container-x86_64",
		"platforms: [{os: linux, architecture: amd64}], channels: [{name: stable-4.18}]": "openshift/release:4.18.3-multi-kube-virt-container",
	} {
		s := newSetupFrom(t, src, "  platform: {kubeVirtContainer: true, "+platform+"}\n", func(o *mirror.Options) { o.Signatures.Strict = true })
		p := s.plan(t)
		if got := destinations(p); !slices.Contains(got, want) {
			t.Errorf("%s: planned are %v, failures %s, want %s", platform, got, reasons(p), want)
		}
	}
	s := newSetupFrom(t, src, "  platform: {kubeVirtContainer: true, architectures: [arm64], channels: [{name: stable-4.18}]}\n"+additional)
	report, err := s.mirror(t)
	if exitCode(err) != 2 || !strings.Contains(failureOf(report, "4.18.3-aarch64"), "could not find kubevirt image in this release") {
		t.Errorf("%v, failures %+v", err, report.Failures)
	}
}

// The name of a release is that of its version, also where the image set names a digest.
//
// Spec: oc-mirror 4.6.
func TestRun_releaseByDigest(t *testing.T) {
	s := newSetup(t, additional)
	for version, arch := range map[string]string{"4.18.2": "amd64", "4.18.3": "multi", "4.18.1": "arm64"} {
		r, ok := s.Release(version, arch)
		if !ok {
			t.Fatal("the sample has no such release")
		}
		s := newSetupFrom(t, s.source, "  platform:\n    release: HOST/"+sample.ReleaseRepository+"@"+r.Digest.String()+"\n", func(o *mirror.Options) { o.Signatures.Strict = true })
		report, err := s.mirror(t)
		if err != nil || len(report.Warnings) > 0 {
			t.Fatalf("%v, warnings %q", err, report.Warnings)
		}
		s.holds(t, "openshift/release-images", r.Tag, r.Digest)
		for _, i := range report.Mirrored {
			if i.Release != r.Tag {
				t.Errorf("%s is of release %q, want %s", i.Origin, i.Release, r.Tag)
			}
		}
		_, d, _ := strings.Cut(r.Components["etcd"], "@")
		s.holds(t, "openshift/release", r.Tag+"-etcd", digest.Digest(d))
	}
}
