package mirror_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror"
)

const oneImage = "  additionalImages:\n  - name: HOST/samples/docker:v1\n"

func (s *setup) pruning(o *mirror.Options) {
	s.beginning(o)
	o.Prune, o.Now = pruner{Store: s.store}, time.Now
}

// What is no longer asked for is deleted after the run.
//
// Spec: oc-mirror 9.5.
func TestRun_prunes(t *testing.T) {
	s := newSetup(t, twoImages)
	s.keeping(t, twoImages)
	p, _, err := mirror.DryRun(t.Context(), s.options(t, oneImage, s.pruning))
	if err != nil || len(p.Prune) != 1 || p.Prune[0].Repository != "samples/oci" || p.Prune[0].Digest != s.digest(t, "samples/oci", "v1") {
		t.Fatalf("the dry run would delete %+v, %v", p, err)
	}
	want := `{"registry":"mirror.example.com:8443","repositories":[{"name":"samples/oci","manifests":["` + string(p.Prune[0].Digest) + `"]}]}`
	if got := s.read(t, "dry-run", "pruning-plan.json"); strings.TrimSpace(got) != want {
		t.Errorf("the plan is %s, want %s", got, want)
	}
	s.holds(t, "samples/oci", "v1", p.Prune[0].Digest)
	r, err := mirror.Run(t.Context(), s.options(t, oneImage, s.pruning))
	if err != nil || len(r.Pruned.Deleted) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	s.lacks(t, "samples/oci", "v1")
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	if all := s.read(t, "mirrored.json"); strings.Contains(all, "samples/oci") {
		t.Errorf("the workspace still lists %s", all)
	}
	if again, err := mirror.Run(t.Context(), s.options(t, oneImage, s.pruning)); err != nil || len(again.Pruned.Deleted) != 0 {
		t.Errorf("the next run deletes %+v, %v", again.Pruned, err)
	}
}

// Where something failed it is not known what replaces what, and without the flag nothing is deleted.
func TestRun_doesNotPrune(t *testing.T) {
	s := newSetup(t, twoImages)
	s.keeping(t, twoImages)
	const absent = oneImage + "  - name: HOST/samples/absent:v1\n"
	if r, err := mirror.Run(t.Context(), s.options(t, absent, s.pruning)); err == nil || r.Pruned != nil {
		t.Errorf("an incomplete run: %+v, %v", r, err)
	}
	if p, _, err := mirror.DryRun(t.Context(), s.options(t, absent, s.pruning)); err == nil || p.Prune != nil {
		t.Errorf("an incomplete plan: %+v, %v", p, err)
	}
	s.keeping(t, oneImage)
	if r := s.keeping(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n", func(o *mirror.Options) { o.Config.File, o.Now = "b.yaml", time.Now }); r.Pruned != nil {
		t.Errorf("another image set deletes %+v", r.Pruned)
	}
	if r, err := mirror.Run(t.Context(), s.options(t, oneImage, s.pruning)); err != nil || len(r.Pruned.Deleted) != 0 {
		t.Errorf("what another image set wants is deleted: %+v, %v", r, err)
	}
	s.holds(t, "samples/oci", "v1", s.digest(t, "samples/oci", "v1"))
}

// A registry that deletes nothing fails the run, and what was mirrored stays.
func TestRun_pruningFails(t *testing.T) {
	s := newSetup(t, twoImages)
	s.keeping(t, twoImages)
	r, err := mirror.Run(t.Context(), s.options(t, oneImage, s.pruning, func(o *mirror.Options) { o.Prune = undeletable{o.Prune} }))
	if err == nil || len(r.Pruned.Failed) != 1 || !strings.Contains(s.read(t, "logs", r.File[strings.LastIndexByte(r.File, '/')+1:]), "405") {
		t.Errorf("%+v, %v", r, err)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}

// So do those of a channel.
func TestPlanPrune_notWhileAChannelLacks(t *testing.T) {
	s := newSetup(t, database)
	s.mirrored(t, database, "a.yaml")
	fast := strings.Replace(database, "- name: stable\n        minVersion: 1.1.0", "- name: fast\n      - name: stabel", 1)
	fast = strings.Replace(fast, "sample-database\n", "sample-database\n      defaultChannel: fast\n", 1)
	s.mirrored(t, fast, "a.yaml")
	const want = "package sample-database channel stabel"
	if d, err := mirror.PlanPrune(t.Context(), s.named(t, fast, "a.yaml"), pruner{Store: s.store}, mirror.DeleteList{ID: "prune"}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%+v, %v", d, err)
	}
	if d := s.drift(t, fast, "a.yaml"); len(d.Warnings) == 0 || !strings.Contains(d.Warnings[len(d.Warnings)-1], "stabel") {
		t.Errorf("%+v", d)
	}
	right := strings.Replace(fast, "\n      - name: stabel", "", 1)
	if d, err := mirror.PlanPrune(t.Context(), s.named(t, right, "a.yaml"), pruner{Store: s.store}, mirror.DeleteList{ID: "prune"}); err != nil || len(d.Items) == 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// A package that its catalog has lost keeps its images.
func TestRun_doesNotPruneWhatACatalogLacks(t *testing.T) {
	const packages = "  operators:\n  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database}, {name: %s}]}\n"
	s := newSetup(t, oneImage)
	s.keeping(t, strings.Replace(packages, "%s", "sample-logging", 1))
	misspelt := strings.Replace(packages, "%s", "sample-loging", 1)
	const want = "package sample-loging"
	if _, _, err := mirror.DryRun(t.Context(), s.options(t, misspelt, s.pruning)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a dry run: %v", err)
	}
	if r, err := mirror.Run(t.Context(), s.options(t, misspelt, s.pruning)); err == nil || !strings.Contains(err.Error(), want) || r.Pruned != nil {
		t.Errorf("a run: %+v, %v", r, err)
	}
	if _, err := mirror.PlanPrune(t.Context(), s.options(t, misspelt, s.pruning), pruner{Store: s.store}, mirror.DeleteList{ID: "prune"}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a plan: %v", err)
	}
	if tags := s.tags(t, "operators/sample-logging-bundle"); len(tags) == 0 {
		t.Error("the bundles of the package are gone")
	}
}

type undeletable struct{ mirror.Pruner }

func (undeletable) Delete(context.Context, string, string) error {
	return errors.New("405 Method Not Allowed")
}
