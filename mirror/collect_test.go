package mirror_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// destinations lists where a plan's images go, in the plan's order.
func destinations(p *plan.Plan) []string {
	var all []string
	for _, i := range p.Images {
		all = append(all, i.Repository+":"+i.Tag)
	}
	return all
}

// payloads lists the releases of a plan, sorted.
func payloads(p *plan.Plan) []string {
	var all []string
	for _, i := range p.Images {
		if i.Type == plan.Release {
			all = append(all, i.Tag)
		}
	}
	slices.Sort(all)
	return all
}

// Spec: oc-mirror 6.2.
func TestPlan_additionalImages(t *testing.T) {
	src := newSource(t)
	d := src.digest(t, "samples/oci", "v1")
	hex := d.Encoded()
	for _, tc := range []struct{ name, config, want string }{
		{"by tag", "- name: HOST/samples/oci:v1", "samples/oci:v1"},
		{"with transport", "- name: docker://HOST/samples/oci:v1", "samples/oci:v1"},
		{"by digest", "- name: HOST/samples/oci@" + d.String(), "samples/oci:sha256-" + hex},
		{"by tag and digest", "- name: HOST/samples/oci:v9@" + d.String(), "samples/oci:v9"},
		{"with a target tag", "- {name: 'HOST/samples/oci@" + d.String() + "', targetTag: v2}", "samples/oci:v2"},
		{"with a target repository", "- {name: 'HOST/samples/oci:v1', targetRepo: a/b}", "a/b:v1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetupFrom(t, src, "  additionalImages:\n  "+tc.config+"\n")
			p := s.plan(t)
			if got := destinations(p); len(got) != 1 || got[0] != tc.want {
				t.Fatalf("goes to %v, want %s", got, tc.want)
			}
			if p.Images[0].Digest != d {
				t.Errorf("is %s, want %s", p.Images[0].Digest, d)
			}
			if !strings.HasPrefix(p.Images[0].Reason, "isc.yaml:5") {
				t.Errorf("it is there because of %q", p.Images[0].Reason)
			}
			s = newSetupFrom(t, src, "  additionalImages:\n  "+tc.config+"\n", func(o *mirror.Options) { o.Prefix = "p/q" })
			if got := destinations(s.plan(t)); got[0] != "p/q/"+tc.want {
				t.Errorf("below a prefix it goes to %s", got[0])
			}
		})
	}
}

func TestPlan_childrenComeFirst(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/docker-multi:v1\n")
	p := s.plan(t)
	manifests := p.Images[0].Manifests
	if len(manifests) != 4 {
		t.Fatalf("%d manifests, want three and their index", len(manifests))
	}
	root := manifests[3].Descriptor
	if root.Digest != p.Images[0].Digest || !strings.Contains(root.MediaType, "list") || len(manifests[3].Blobs) != 0 {
		t.Errorf("the last manifest is %+v", root)
	}
	for _, m := range manifests[:3] {
		if len(m.Blobs) != 3 { // config and two layers
			t.Errorf("manifest %s has %d blobs", m.Descriptor.Digest, len(m.Blobs))
		}
	}
}

func TestPlan_missingAdditionalImage(t *testing.T) {
	s := newSetup(t, additional+"  - name: HOST/samples/none:v1\n")
	p := s.plan(t)
	if len(p.Images) != 2 || len(p.Failures) != 1 || p.Failures[0].Image.Origin != s.host+"/samples/none:v1" {
		t.Fatalf("%d images, failures %+v", len(p.Images), p.Failures)
	}
	report, err := s.engine.Execute(t.Context(), p, s.run(t))
	if exitCode(err) != 8 || len(report.Failures) != 1 || len(report.Mirrored) != 2 {
		t.Errorf("error %v, %d failed, %d mirrored", err, len(report.Failures), len(report.Mirrored))
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}

// Some servers answer every request with 200 and JSON of their own.
func TestPlan_anErrorIsNoImage(t *testing.T) {
	s := newSetup(t, additional)
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/samples/docker/manifests/v1") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		io.WriteString(w, `{"title":"the quota is used up"}`)
		return true
	})
	report, err := s.mirror(t)
	if exitCode(err) != 8 || len(report.Failures) != 1 || len(report.Mirrored) != 1 {
		t.Errorf("error %v, failures %v, %d are mirrored", err, report.Failures, len(report.Mirrored))
	}
	s.lacks(t, "samples/docker", "v1")
}

func TestPlan_foreignLayersAreNamed(t *testing.T) {
	s := newSetup(t, additional)
	m, _ := s.Manifest("samples/docker", "v1")
	d := s.layer(t, "samples/docker", "v1")
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/samples/docker/manifests/v1") {
			return false
		}
		w.Header().Set("Content-Type", m.MediaType)
		io.WriteString(w, strings.Replace(string(m.Body), `"digest":"`+d.String()+`"`, `"urls":["https://example.com/x"],"digest":"`+d.String()+`"`, 1))
		return true
	})
	p := s.plan(t)
	if !slices.ContainsFunc(p.Warnings, func(w string) bool {
		return strings.Contains(w, s.host+"/samples/docker:v1: foreign layers, 1 of them, are not copied")
	}) || strings.Contains(strings.Join(p.Warnings, " "), "oci-multi") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

// reasons returns the errors of the failures that are not consequences of others.
func reasons(p *plan.Plan) string {
	var all []string
	for _, f := range p.Failures {
		if !f.Consequence {
			all = append(all, f.Image.Reason+": "+f.Error)
		}
	}
	return strings.Join(all, "\n")
}

// gone makes manifests of a repository vanish.
func (s *setup) gone(repo string, ds ...digest.Digest) {
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		_, ref, ok := strings.Cut(r.URL.Path, repo+"/manifests/")
		if gone := ok && slices.Contains(ds, digest.Digest(ref)); !gone {
			return false
		}
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return true
	})
}

// Spec: oc-mirror 3.4.
func TestRun_oneReleaseIsIncomplete(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	repo, operator := s.component(t, "4.18.2", "machine-config-operator")
	_, hyperkube := s.component(t, "4.18.2", "hyperkube")
	s.gone(repo, operator, hyperkube)
	p := s.plan(t)
	for _, want := range []string{"component machine-config-operator of release 4.18.2-x86_64", "component hyperkube of release 4.18.2-x86_64"} {
		if !strings.Contains(reasons(p), want) {
			t.Errorf("%s\nsays nothing of %s", reasons(p), want)
		}
	}
	report, err := s.engine.Execute(t.Context(), p, s.run(t))
	if exitCode(err) != 2 {
		t.Errorf("exit code %d, want 2 (%v)", exitCode(err), err)
	}
	if want := []mirror.Result{{"release", 10, 20}, {"additional", 2, 2}}; !slices.Equal(report.Results(), want) {
		t.Errorf("the results are %v, want %v", report.Results(), want)
	}
	release, _ := s.Release("4.18.1", "amd64")
	s.holds(t, "openshift/release-images", "4.18.1-x86_64", release.Digest)
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	s.lacks(t, "openshift/release-images", "4.18.2-x86_64")
	tags := slices.DeleteFunc(s.tags(t, "openshift/release"), func(tag string) bool { return strings.HasSuffix(tag, ".sig") })
	if len(tags) != 9 || !strings.HasPrefix(tags[0], "4.18.1-") {
		t.Errorf("components %v, want those of one release", tags)
	}
}

// A registry that is down is asked for one component of a release, not for two hundred
// with all their retries.
func TestPlan_registryThatIsDown(t *testing.T) {
	s := newSetup(t, twoReleases+additional, oneAtATime)
	repo, _ := s.component(t, "4.18.2", "machine-config-operator")
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		down := strings.Contains(r.URL.Path, repo+"/manifests/")
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return down
	})
	p := s.plan(t)
	if len(p.Images) != 2 || strings.Count(reasons(p), "\n") != 1 || !strings.Contains(reasons(p), "503") {
		t.Errorf("%d images are planned, failures\n%s", len(p.Images), reasons(p))
	}
}

// Spec: oc-mirror 4.5.
func TestPlan_graphFailureKeepsItsCause(t *testing.T) {
	for _, tc := range []struct {
		name, channel, want string
		status              int
	}{
		{"refused", "stable-4.18", "404 Not Found", http.StatusNotFound},
		{"no such channel", "stable-4.99", "the update service knows no release in it", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetup(t, "  platform:\n    channels:\n    - name: "+tc.channel+"\n"+additional)
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if tc.status == 0 || r.URL.Path != sample.GraphPath {
					return false
				}
				w.WriteHeader(tc.status)
				return true
			})
			p := s.plan(t)
			if len(p.Images) != 2 || !strings.Contains(reasons(p), tc.want) || !strings.Contains(p.Failures[0].Incomplete, tc.channel) {
				t.Errorf("%d images, %s", len(p.Images), reasons(p))
			}
			if report, err := s.engine.Execute(t.Context(), p, s.run(t)); exitCode(err) != 2 || len(report.Mirrored) != 2 {
				t.Errorf("error %v, %d mirrored", err, len(report.Mirrored))
			}
		})
	}
}

// Spec: oc-mirror 4.2, 4.3, 4.4.
func TestPlan_releases(t *testing.T) {
	src := newSource(t)
	byDigest, _ := src.Release("4.18.2", "amd64")
	multi, _ := src.Release("4.18.3", "multi")
	for _, tc := range []struct {
		name, platform string
		want           []string
	}{
		{"head of a channel", "channels: [{name: stable-4.18}]", []string{"4.18.3-x86_64"}},
		{"full", "channels: [{name: stable-4.18, full: true}]", []string{"4.18.1-x86_64", "4.18.2-x86_64", "4.18.3-x86_64"}},
		{"a range", "channels: [{name: candidate-4.18, minVersion: 4.18.2, maxVersion: 4.18.3}]", []string{"4.18.2-x86_64", "4.18.3-x86_64"}},
		{"the shortest path", "channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.3, shortestPath: true}]", []string{"4.18.1-x86_64", "4.18.3-x86_64"}},
		{"architectures", "architectures: [arm64, multi], channels: [{name: stable-4.18}]", []string{"4.18.3-aarch64", "4.18.3-multi"}},
		{"platforms", "platforms: [{os: linux, architecture: arm64}], channels: [{name: stable-4.18}]", []string{"4.18.3-multi"}},
		{"two channels, and the way between them", "channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}, {name: candidate-4.18}]",
			[]string{"4.18.1-x86_64", "4.18.3-x86_64", "4.18.4-x86_64"}},
		{"an update with extended support", "channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.2, shortestPath: true}]",
			[]string{"4.16.2-x86_64", "4.17.2-x86_64", "4.18.1-x86_64", "4.18.2-x86_64"}},
		{"another channel, from minor to minor", "channels: [{name: stable-4.17, minVersion: 4.16.2}, {name: stable-4.18, minVersion: 4.18.2, maxVersion: 4.18.2}]",
			[]string{"4.16.2-x86_64", "4.17.2-x86_64", "4.18.2-x86_64"}},
		{"one release, by tag", "release: 'HOST/openshift-release-dev/ocp-release:4.18.2-x86_64'", []string{"4.18.2-x86_64"}},
		{"one release, by digest", "release: 'HOST/openshift-release-dev/ocp-release@" + byDigest.Digest.String() + "'", []string{"4.18.2-x86_64"}},
		{"a list, by digest", "release: 'HOST/openshift-release-dev/ocp-release@" + multi.Digest.String() + "'", []string{"4.18.3-multi"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetupFrom(t, src, "  platform: {"+tc.platform+"}\n")
			p := s.plan(t)
			if got := payloads(p); !slices.Equal(got, tc.want) {
				t.Errorf("releases %v, want %v", got, tc.want)
			}
			components := len(p.Images) - len(payloads(p))
			if components != 9*len(tc.want) {
				t.Errorf("%d components, want 9 of each release", components)
			}
		})
	}
}

// Spec: oc-mirror 4.2.
func TestPlan_warnsOfExtendedSupport(t *testing.T) {
	const one = "{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.2, shortestPath: true}"
	s := newSetup(t, "  platform:\n    architectures: [amd64, arm64]\n    channels: ["+one+"]\n")
	if p := s.plan(t); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "isc.yaml:6: eus-4.18 goes over more than one minor version") {
		t.Errorf("warnings %q", p.Warnings)
	}
	s = newSetupFrom(t, s.source, "  platform:\n    channels: ["+strings.Replace(one, "4.16.2", "4.17.2", 1)+"]\n")
	if p := s.plan(t); len(p.Warnings) != 0 {
		t.Errorf("warnings %q", p.Warnings)
	}
}

// Spec: oc-mirror 3.1.
func TestPlan_workspace(t *testing.T) {
	s := newSetup(t, twoReleases)
	s.plan(t)
	want := []string{
		"working-dir/hold-release/cincinnati-graph-data/amd64-stable-4.18.json",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/payload-digest",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/release-manifests/0000_50_installer_coreos-bootimages.yaml",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/release-manifests/0000_90_openshift-cluster-image-policy.yaml",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/release-manifests/image-references",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/release-manifests/release-metadata",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/payload-digest",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/release-manifests/0000_50_installer_coreos-bootimages.yaml",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/release-manifests/0000_90_openshift-cluster-image-policy.yaml",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/release-manifests/image-references",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/release-manifests/release-metadata",
		"working-dir/signatures/4.18.1-x86_64-sha256-" + s.release(t, "4.18.1").Digest.Encoded(),
		"working-dir/signatures/4.18.2-x86_64-sha256-" + s.release(t, "4.18.2").Digest.Encoded(),
		"working-dir/sigstore/signed.json",
	}
	if got := s.files(t); !slices.Equal(got, want) {
		t.Errorf("the workspace has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	t.Run("what is damaged there is fetched again", func(t *testing.T) {
		file := filepath.Join(s.workspace, want[9])
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(good), "etcd", "dcte", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		s.asked("")
		s.plan(t)
		if n := len(s.asked("/blobs/")); n != 1 {
			t.Errorf("%d blobs were read, want the one layer", n)
		}
		if again, err := os.ReadFile(file); err != nil || string(again) != string(good) {
			t.Errorf("the file was not mended (%v)", err)
		}
	})
}

func TestPlan_collision(t *testing.T) {
	src := newSource(t)
	t.Run("of images that differ", func(t *testing.T) {
		s := newSetupFrom(t, src, additional+"  - {name: 'HOST/samples/oci:v1', targetRepo: x}\n  - {name: 'HOST/samples/artifact:v1', targetRepo: x}\n")
		p := s.plan(t)
		if got := reasons(p); len(p.Failures) != 2 || !strings.Contains(got, "isc.yaml:7") || !strings.Contains(got, "isc.yaml:8") {
			t.Errorf("failures\n%s\nwant both lines named in both", got)
		}
		if got := destinations(p); !slices.Equal(got, []string{"samples/docker:v1", "samples/oci-multi:v1"}) {
			t.Errorf("planned are %v", got)
		}
	})
	t.Run("of names of one image", func(t *testing.T) {
		d := src.digest(t, "samples/oci", "v1")
		s := newSetupFrom(t, src, "  additionalImages:\n  - name: HOST/samples/oci:v1\n  - name: HOST/samples/oci:v1\n  - name: HOST/samples/oci:v1@"+d.String()+"\n")
		report, err := s.mirror(t)
		if err != nil || len(report.Mirrored) != 2 {
			t.Errorf("%d mirrored, %v", len(report.Mirrored), err)
		}
		s.holds(t, "samples/oci", "v1", d)
	})
}

func TestPlan_cancelled(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	ctx, cancel := context.WithCancel(t.Context())
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		cancel()
		<-r.Context().Done()
		return true
	})
	if _, err := s.engine.Plan(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

// Spec: oc-mirror 3.6.
func TestDryRun(t *testing.T) {
	s := newSetup(t, additional, func(o *mirror.Options) { o.Prefix = "ns" })
	p := s.plan(t)
	run := s.run(t)
	if err := s.engine.Compare(t.Context(), p, run); err != nil {
		t.Fatal(err)
	}
	if err := run.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(s.workspace, "working-dir", "dry-run", "missing.txt")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.WriteMapping(p); err != nil {
		t.Fatal(err)
	}
	want := "docker://" + s.host + "/samples/docker:v1=docker://mirror.example.com:8443/ns/samples/docker:v1\n" +
		"docker://" + s.host + "/samples/oci-multi:v1=docker://mirror.example.com:8443/ns/samples/oci-multi:v1\n"
	if got := s.read(t, "dry-run", "mapping.txt"); got != want {
		t.Errorf("mapping.txt is\n%swant\n%s", got, want)
	}
	if files := s.files(t); !slices.Equal(files, []string{"working-dir/dry-run/cluster-resources/itms-oc-mirror.yaml", "working-dir/dry-run/mapping.txt"}) {
		t.Errorf("the workspace has %v", files)
	}
	if names := s.repositories(t); len(names) != 0 {
		t.Errorf("the destination holds %v", names)
	}
	if blobs := s.asked("/blobs/"); len(blobs) != 0 {
		t.Errorf("a dry run fetched %v", blobs)
	}
}

func TestNew_parallelism(t *testing.T) {
	for _, n := range []int{-1, 11} {
		if _, err := mirror.New(mirror.Options{ParallelLayers: n}); err == nil || err.Error() != "the flag parallel-layers must be between the range 1 to 10" {
			t.Errorf("%d layers: %v", n, err)
		}
	}
}
