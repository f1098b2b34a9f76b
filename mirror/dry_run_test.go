package mirror_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
)

// beginning is a run of the store.
func (s *setup) beginning(o *mirror.Options) {
	o.Begin = func(ctx context.Context, name string) (mirror.Destination, error) {
		return s.store.Runs.Begin(ctx, name)
	}
}

// Spec: oc-mirror 3.6.
func TestDryRun_files(t *testing.T) {
	s := newSetup(t, additional)
	dry := func(change ...options) string {
		t.Helper()
		_, mapping, err := mirror.DryRun(t.Context(), s.options(t, additional, append(change, s.beginning)...))
		if err != nil {
			t.Fatal(err)
		}
		if mapping != filepath.Join(s.workspace, "working-dir", "dry-run", "mapping.txt") {
			t.Errorf("the mapping is %s", mapping)
		}
		return s.read(t, "dry-run", "mapping.txt")
	}
	const first, second = "docker://HOST/samples/docker:v1=docker://mirror.example.com:8443/samples/docker:v1\n",
		"docker://HOST/samples/oci-multi:v1=docker://mirror.example.com:8443/samples/oci-multi:v1\n"
	host := strings.NewReplacer("HOST", s.host)
	if got, want := dry(), host.Replace(first+second); got != want || s.read(t, "dry-run", "missing.txt") != want {
		t.Errorf("mapping %s, missing %s, want %s", got, s.read(t, "dry-run", "missing.txt"), want)
	}
	if got := s.read(t, "dry-run", "cluster-resources", "itms-oc-mirror.yaml"); !strings.Contains(got, "source: "+s.host+"/samples") {
		t.Errorf("resources: %s", got)
	}
	if applied := s.resources(t); len(applied) > 0 {
		t.Errorf("nothing is mirrored, and the resources to apply are %v", applied)
	}
	if repositories := s.repositories(t); len(repositories) > 0 {
		t.Errorf("the destination has %q", repositories)
	}
	m, ok := s.Manifest("samples/oci-multi", "v1")
	if !ok {
		t.Fatal("the sample has no samples/oci-multi:v1")
	}
	members := strings.Count(string(m.Body), `"platform"`)
	got := dry(func(o *mirror.Options) { o.ListMembers = true })
	if n := strings.Count(got, "docker://"+s.host+"/samples/oci-multi:v1@sha256:"); n != members || strings.Contains(got, "samples/docker:v1@") {
		t.Errorf("%d lines for %d members:\n%s", n, members, got)
	}
	if _, err := mirror.Run(t.Context(), s.options(t, additional, s.beginning)); err != nil {
		t.Fatal(err)
	}
	dry()
	for _, f := range s.files(t) {
		if strings.HasSuffix(f, "missing.txt") {
			t.Error("something is missing after all was mirrored")
		}
	}
}

// What is applied to clusters is about what is mirrored.
//
// Spec: oc-mirror 3.6.
func TestDryRun_leavesClusterResources(t *testing.T) {
	s := newSetup(t, additional)
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	before := s.files(t)
	for name, other := range map[string]options{
		"mirror.example.com:8443/one/name": func(*mirror.Options) {},
		"other.example.com/one/name":       func(o *mirror.Options) { o.Registry = "other.example.com" },
	} {
		applied := s.resources(t)
		if _, _, err := mirror.DryRun(t.Context(), s.options(t, firstImage, s.beginning, other)); err != nil {
			t.Fatal(err)
		}
		if now := s.resources(t); !maps.Equal(now, applied) || len(now) == 0 {
			t.Errorf("to apply are %v, and were %v", now, applied)
		}
		if got := s.read(t, "dry-run", "cluster-resources", "itms-oc-mirror.yaml"); !strings.Contains(got, "- "+name+"\n") {
			t.Errorf("of the dry run, without %s:\n%s", name, got)
		}
	}
	after := slices.DeleteFunc(s.files(t), func(f string) bool { return strings.HasPrefix(f, "working-dir/dry-run/") || f == ".appliance.lock" })
	if !slices.Equal(before, after) {
		t.Errorf("the workspace has %v, and had %v", after, before)
	}
}

// Spec: oc-mirror 6.4.
func TestRun_maxNestedPaths(t *testing.T) {
	for most, want := range map[int]string{1: "m2m-deep-samples-docker", 2: "m2m/deep-samples-docker", 3: "m2m/deep/samples-docker", 4: "m2m/deep/samples/docker"} {
		s := newSetup(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n", func(o *mirror.Options) { o.Prefix, o.MaxNestedPaths = "m2m/deep", most })
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		s.holds(t, want, "v1", s.digest(t, "samples/docker", "v1"))
		if got := s.read(t, "cluster-resources", "itms-oc-mirror.yaml"); !strings.Contains(got, "- mirror.example.com:8443/"+want+"\n    source: "+s.host+"/samples/docker\n") {
			t.Errorf("%d: resources for %s:\n%s", most, want, got)
		}
	}
}

func TestRun_oneInAWorkspace(t *testing.T) {
	s := newSetup(t, additional)
	var second error
	_, err := mirror.Run(t.Context(), s.options(t, additional, s.beginning, func(o *mirror.Options) {
		begin := o.Begin
		o.Begin = func(ctx context.Context, name string) (mirror.Destination, error) {
			_, second = mirror.Run(ctx, s.options(t, additional, s.beginning))
			return begin(ctx, name)
		}
	}))
	if err != nil {
		t.Error(err)
	}
	if second == nil || !strings.Contains(second.Error(), "another run is in the workspace "+s.workspace+": process ") || hint.Of(second) == "" {
		t.Errorf("the second run: %v", second)
	}
	if _, err := mirror.Run(t.Context(), s.options(t, additional, s.beginning)); err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
}
