package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

func TestPlaces(t *testing.T) {
	p := places{limit: 2}
	a, b := WithUser(t.Context(), "a"), WithUser(t.Context(), "b")
	enter := func(ctx context.Context) func() {
		t.Helper()
		leave, err := p.enter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	first, second := enter(a), enter(a)
	enter(b)() // of another user, which does not wait
	ended, cancel := context.WithCancel(a)
	cancel()
	if _, err := p.enter(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a third place: %v", err)
	}
	first()
	enter(a)()
	second()
	if len(p.users) != 0 {
		t.Errorf("%d users are remembered who have no place", len(p.users))
	}
}

// children are descriptors of manifests that are not held.
func children(n int) []ocispec.Descriptor {
	ds := make([]ocispec.Descriptor, n)
	for i := range ds {
		ds[i] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint("child ", i)), Size: 1}
	}
	return ds
}

func TestStore_PutManifest_descriptors(t *testing.T) {
	f := newFixture(t)
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	ways := map[string]func(body []byte) error{
		"push": func(body []byte) error {
			_, err := f.Manifests.Put(f.ctx, "a/x", body, PutOptions{})
			return err
		},
		"pull-through": func(body []byte) error {
			_, err := f.Manifests.PutPulled(f.ctx, "a/x", body, PutOptions{})
			return err
		},
		"sync": func(body []byte) error {
			return run.PutManifest(f.ctx, "a/x", descriptor("", body), body)
		},
	}
	config := f.blob("a/x", "{}")
	large := map[string][]byte{"an index": index(children(4096 + 1)...), "an image": manifestOf(config, children(4096)...)}
	for name, put := range ways {
		for kind, body := range large {
			var invalid *InvalidError
			err := put(body)
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), fmt.Sprint(4096+1)) || !strings.Contains(err.Error(), fmt.Sprint("the ", 4096)) {
				t.Errorf("%s of %s with %d descriptors: %v", name, kind, 4096+1, err)
			}
		}
		f.must(put(index(children(4096)...)))
	}
}

// An older version accepted what is too large now: it is held, whole and deletable.
func TestStore_Verify_heldLargeIndex(t *testing.T) {
	f := newFixture(t)
	body := index(children(4096 + 1)...)
	p, err := image.Parse("", body)
	f.must(err)
	m := Manifest{Digest: digest.FromBytes(body), MediaType: p.MediaType, Body: body, Created: f.clock.now()}
	f.must(f.db.Share(f.ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := insertManifest(ctx, tx, &m, p); err != nil {
			return err
		}
		return f.showManifest(ctx, tx, "a/x", &m, p, byPush, nil)
	}))
	if got := f.verified(VerifyOptions{}); !got.Clean() || got.References != 4096+1 {
		t.Errorf("%d references, problems: %v", got.References, got.Problems)
	}
	f.must(f.Manifests.Delete(f.ctx, "a/x", m.Digest))
}

func TestStore_PutManifest_tags(t *testing.T) {
	f := newFixture(t)
	body := index()
	tags := make([]string, maxTags+1)
	for i := range tags {
		tags[i] = fmt.Sprint("v", i)
	}
	var invalid *InvalidError
	if _, err := f.Manifests.Put(f.ctx, "a/x", body, PutOptions{Tags: tags}); !errors.As(err, &invalid) {
		t.Errorf("with %d tags: %v", len(tags), err)
	}
	_, err := f.Manifests.Put(f.ctx, "a/x", body, PutOptions{Tags: tags[1:]})
	f.must(err)
}
