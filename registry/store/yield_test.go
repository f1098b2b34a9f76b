package store

import (
	"context"
	"errors"
	"testing"
)

// A collection pauses only for what is read meanwhile: a context that has ended shows the pause.
func TestYielding_PausesForReadsOnly(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	ended, cancel := context.WithCancel(f.ctx)
	turn := f.yielding()
	turn.began = turn.began.Add(-longestYield)
	f.must(turn.yield(f.ctx))
	if turn.asked != f.asked.Load() {
		t.Error("it has not seen what was read before")
	}
	for name, read := range map[string]func() error{
		"a manifest by tag":    func() error { _, err := f.ManifestByTag(f.ctx, "app", "v1"); return err },
		"a manifest by digest": func() error { _, err := f.Manifest(f.ctx, "app", m.Digest); return err },
		"a blob":               func() error { _, err := f.StatBlob(f.ctx, "app", layerOf(m)); return err },
	} {
		before := f.asked.Load()
		f.must(read())
		if f.asked.Load() == before {
			t.Errorf("%s is not noticed", name)
		}
	}
	cancel()
	if err := turn.yield(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on after its end: %v", err)
	}
}
