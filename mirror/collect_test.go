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

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/hint"
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

func TestPlan_missingComponentsAreNamedAtOnce(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	repo, etcd := s.component(t, "4.18.2", "etcd")
	_, hyperkube := s.component(t, "4.18.2", "hyperkube")
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		gone := strings.Contains(r.URL.Path, repo+"/manifests/"+etcd.String()) || strings.Contains(r.URL.Path, repo+"/manifests/"+hyperkube.String())
		if gone {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		}
		return gone
	})
	_, err := s.engine.Plan(t.Context())
	if code := exitCode(err); code != 2 {
		t.Fatalf("exit code %d, want 2 (%v)", code, err)
	}
	for _, want := range []string{"component etcd of release 4.18.2-x86_64", "component hyperkube of release 4.18.2-x86_64"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nsays nothing of %s", err, want)
		}
	}
	if names := s.repositories(t); len(names) != 0 {
		t.Errorf("the store holds %v", names)
	}
}

func TestPlan_graphFailureKeepsItsCause(t *testing.T) {
	for _, tc := range []struct {
		name, channel, want string
		status              int
	}{
		{"refused", "stable-4.18", "404 Not Found", http.StatusNotFound},
		{"no such channel", "stable-4.99", "the update service knows no release in it", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetup(t, "  platform:\n    channels:\n    - name: "+tc.channel+"\n")
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if tc.status == 0 || r.URL.Path != sample.GraphPath {
					return false
				}
				w.WriteHeader(tc.status)
				return true
			})
			_, err := s.engine.Plan(t.Context())
			if exitCode(err) != 2 || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.channel) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestPlan_releases(t *testing.T) {
	src := newSource(t)
	byDigest, _ := src.Release("4.18.2", "amd64")
	for _, tc := range []struct {
		name, platform string
		want           []string
	}{
		{"head of a channel", "channels: [{name: stable-4.18}]", []string{"4.18.3-x86_64"}},
		{"full", "channels: [{name: stable-4.18, full: true}]", []string{"4.18.1-x86_64", "4.18.2-x86_64", "4.18.3-x86_64"}},
		{"a range", "channels: [{name: candidate-4.18, minVersion: 4.18.2, maxVersion: 4.18.3}]", []string{"4.18.2-x86_64", "4.18.3-x86_64"}},
		{"the shortest path", "channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.3, shortestPath: true}]", []string{"4.18.1-x86_64", "4.18.3-x86_64"}},
		{"architectures", "architectures: [arm64, multi], channels: [{name: stable-4.18}]", []string{"4.18.3-aarch64", "4.18.3-multi"}},
		{"two channels, and the way between them", "channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}, {name: candidate-4.18}]",
			[]string{"4.18.1-x86_64", "4.18.3-x86_64", "4.18.4-x86_64"}},
		{"one release, by tag", "release: 'HOST/openshift-release-dev/ocp-release:4.18.2-x86_64'", []string{"4.18.2-x86_64"}},
		{"one release, by digest", "release: 'HOST/openshift-release-dev/ocp-release@" + byDigest.Digest.String() + "'", []string{byDigest.Digest.Encoded()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetupFrom(t, src, "  platform: {"+tc.platform+"}\n")
			p := s.plan(t)
			if got := payloads(p); !slices.Equal(got, tc.want) {
				t.Errorf("releases %v, want %v", got, tc.want)
			}
			components := len(p.Images) - len(payloads(p))
			if components != 8*len(tc.want) {
				t.Errorf("%d components, want 8 of each release", components)
			}
		})
	}
}

func TestPlan_workspace(t *testing.T) {
	s := newSetup(t, twoReleases)
	s.plan(t)
	want := []string{
		"working-dir/hold-release/cincinnati-graph-data/amd64-stable-4.18.json",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/payload-digest",
		"working-dir/hold-release/ocp-release/4.18.1-x86_64/release-manifests/image-references",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/payload-digest",
		"working-dir/hold-release/ocp-release/4.18.2-x86_64/release-manifests/image-references",
	}
	if got := s.files(t); !slices.Equal(got, want) {
		t.Errorf("the workspace has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	t.Run("what is damaged there is fetched again", func(t *testing.T) {
		file := filepath.Join(s.workspace, want[4])
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

func TestPlan_blockedImages(t *testing.T) {
	s := newSetup(t, twoReleases+additional+"  blockedImages:\n  - name: -hyperkube$\n  - name: samples/docker\n")
	for _, d := range destinations(s.plan(t)) {
		if strings.Contains(d, "hyperkube") || strings.Contains(d, "samples/docker:") {
			t.Errorf("%s is blocked and planned", d)
		}
	}
	t.Run("all of them", func(t *testing.T) {
		s := newSetup(t, additional+"  blockedImages:\n  - name: .\n")
		if _, err := s.engine.Plan(t.Context()); exitCode(err) != 1 || err.Error() != "no images to copy" {
			t.Errorf("error %v", err)
		}
	})
}

func TestPlan_collision(t *testing.T) {
	s := newSetup(t, "  additionalImages:\n  - {name: 'HOST/samples/oci:v1', targetRepo: x}\n  - {name: 'HOST/samples/docker:v1', targetRepo: x}\n")
	_, err := s.engine.Plan(t.Context())
	if err == nil || !strings.Contains(err.Error(), "isc.yaml:5") || !strings.Contains(err.Error(), "isc.yaml:6") {
		t.Errorf("error %v, want one that names both lines", err)
	}
}

func TestPlan_unbuiltSectionsAreRefused(t *testing.T) {
	src := newSource(t)
	for _, tc := range []struct{ name, config, place, what string }{
		{"operators", additional + "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n", "isc.yaml:7", "operator catalogs"},
		{"platforms of a chart", "  helm:\n    local:\n    - {name: x, path: x, platforms: [{os: linux, architecture: amd64}]}\n", "isc.yaml:6", "platforms"},
		{"graph", "  platform:\n    graph: true\n    channels: [{name: stable-4.18}]\n", "isc.yaml:5", "platform.graph"},
		{"kubeVirtContainer", "  platform:\n    channels: [{name: stable-4.18}]\n    kubeVirtContainer: true\n", "isc.yaml:6", "platform.kubeVirtContainer"},
		{"platforms of a release", "  platform:\n    platforms: [{os: linux, architecture: amd64}]\n    channels: [{name: stable-4.18}]\n", "isc.yaml:5", "platform.platforms"},
		{"platforms of an image", "  additionalImages:\n  - name: HOST/samples/oci-multi:v1\n    platforms: [{os: linux, architecture: amd64}]\n", "isc.yaml:6", "platforms"},
		{"a layout on disk", "  additionalImages:\n  - name: oci:///tmp/x\n", "isc.yaml:5", "oci://"},
		{"a release on disk", "  platform:\n    release: oci:///tmp/x\n", "isc.yaml:5", "oci://"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetupFrom(t, src, tc.config)
			src.asked("")
			_, err := s.engine.Plan(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.place) || !strings.Contains(err.Error(), tc.what) {
				t.Fatalf("error %v, want one that names %s and %s", err, tc.place, tc.what)
			}
			if hint.Of(err) == "" {
				t.Error("it does not say what to do")
			}
			if files := s.files(t); len(files) != 0 {
				t.Errorf("written: %v", files)
			}
			if asked := src.asked(""); len(asked) != 0 {
				t.Errorf("the upstream was asked: %v", asked)
			}
		})
	}
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
	if files := s.files(t); !slices.Equal(files, []string{"working-dir/cluster-resources/itms-oc-mirror.yaml", "working-dir/dry-run/mapping.txt"}) {
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
