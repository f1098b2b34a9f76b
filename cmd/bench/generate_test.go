package main

import (
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// checkGenerated asks the store itself.
func checkGenerated(t *testing.T, c *config.Config, g *generated) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Database: c.Database, Storage: c.Storage})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, m := range g.manifests {
		if _, err := s.Manifests.Get(t.Context(), generatedRepo(repoOf(m.number, len(g.manifests))), m.digest); err != nil {
			t.Fatal(err)
		}
	}
	i, err := generatedImage(len(g.manifests) - 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Manifests.Put(t.Context(), generatedRepo(repoOf(len(g.manifests)-1, len(g.manifests))), i.manifest, store.PutOptions{}); err != nil {
		t.Errorf("the blobs of a generated manifest are not held: %v", err)
	}
	plan, err := gc.MakePlan(t.Context(), s.Garbage, gc.Options{Before: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(g.manifests) / garbageEvery; len(plan.Blobs) != want {
		t.Errorf("%d blobs are garbage, not %d", len(plan.Blobs), want)
	}
}
