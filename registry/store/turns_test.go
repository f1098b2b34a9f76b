package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

// A turn is a write of a user that takes as long as it says, and whether it is alone.
type turn struct {
	user  string
	cost  time.Duration
	alone bool
}

// takeTurns queues writes in order behind a held writer, lets them go, and says in which order they ran; a bar stands
// where a transaction ended.
func (f *fixture) takeTurns(turns ...turn) string {
	f.t.Helper()
	release := f.hold()
	f.group.now = f.clock.now
	var order []string
	var last *sql.Tx
	note := func(i int, tx *sql.Tx) error {
		if last != nil && last != tx {
			order = append(order, "|")
		}
		last = tx
		order = append(order, fmt.Sprint(turns[i].user, i))
		f.clock.add(turns[i].cost)
		return nil
	}
	var wg sync.WaitGroup
	for i, turn := range turns {
		wg.Go(func() {
			ctx := WithUser(f.ctx, turn.user)
			write := func() error {
				return f.share(ctx, func(_ context.Context, tx *sql.Tx) error { return note(i, tx) })
			}
			if turn.alone {
				write = func() error { return f.write(ctx, func(tx *sql.Tx) error { return note(i, tx) }) }
			}
			if err := write(); err != nil {
				f.t.Errorf("write %d: %v", i, err)
			}
		})
		f.queued(i + 1)
	}
	release()
	wg.Wait()
	return strings.Join(order, " ")
}

func TestGroup_turns(t *testing.T) {
	const short, long = time.Millisecond, time.Second
	for name, c := range map[string]struct {
		turns []turn
		want  string
	}{
		"short writes share a transaction": {
			[]turn{{"a", short, false}, {"b", short, false}, {"a", short, false}}, "a0 b1 a2"},
		"a long write ends its transaction": {
			[]turn{{"a", long, false}, {"a", short, false}, {"a", short, false}}, "a0 | a1 a2"},
		"a short write waits for one long write of another user": {
			[]turn{{"a", long, false}, {"a", long, false}, {"a", long, false}, {"b", short, false}}, "a0 | b3 a1 | a2"},
		"the user who was served least is next": {
			[]turn{{"a", long, false}, {"a", short, false}, {"b", short, false}, {"c", short, false}, {"b", short, false}, {"b", short, false}},
			"a0 | b2 c3 b4 b5 a1"},
		"a write that is alone has its turn": {
			[]turn{{"a", short, false}, {"a", short, false}, {"b", short, true}, {"c", short, false}}, "a0 | b2 | c3 a1"},
		"writes that are alone are not preferred": {
			[]turn{{"a", long, true}, {"a", long, true}, {"a", long, true}, {"b", short, false}}, "a0 | b3 | a1 | a2"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newFixture(t).takeTurns(c.turns...); got != c.want {
				t.Errorf("the order is %s, want %s", got, c.want)
			}
		})
	}
}

// A user who was away has the next turn, and not all the turns that were missed.
func TestQueue_comesBack(t *testing.T) {
	var q queue
	for range 4 {
		q.add(&shared{user: "a"})
	}
	any := func(*shared) bool { return true }
	for range 2 {
		q.charge(q.take(any).user, time.Second)
	}
	for range 3 {
		q.add(&shared{user: "b"})
	}
	var got []string
	for w := q.take(any); w != nil; w = q.take(any) {
		got = append(got, w.user)
		q.charge(w.user, time.Second)
	}
	if want := []string{"b", "a", "b", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

func TestGroup_aloneIsTakenBackWhenItsContextEnds(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.ctx)
	err := f.write(ctx, func(tx *sql.Tx) error {
		err := insertSecret("a")(f.ctx, tx)
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.must(f.share(f.ctx, insertSecret("b")))
	if got := f.secrets(); got != "b" {
		t.Errorf("written: %s", got)
	}
}

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
	run, err := f.BeginRun(f.ctx, "sync")
	f.must(err)
	ways := map[string]func(body []byte) error{
		"push": func(body []byte) error {
			_, err := f.PutManifest(f.ctx, "a/x", body, PutOptions{})
			return err
		},
		"pull-through": func(body []byte) error {
			_, err := f.PutPulledManifest(f.ctx, "a/x", body, PutOptions{})
			return err
		},
		"sync": func(body []byte) error {
			return run.PutManifest(f.ctx, "a/x", descriptor("", body), body)
		},
	}
	config := f.blob("a/x", "{}")
	large := map[string][]byte{"an index": index(children(image.MaxReferences + 1)...), "an image": manifestOf(config, children(image.MaxReferences)...)}
	for name, put := range ways {
		for kind, body := range large {
			var invalid *InvalidError
			err := put(body)
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), fmt.Sprint(image.MaxReferences+1)) || !strings.Contains(err.Error(), fmt.Sprint("the ", image.MaxReferences)) {
				t.Errorf("%s of %s with %d descriptors: %v", name, kind, image.MaxReferences+1, err)
			}
		}
		f.must(put(index(children(image.MaxReferences)...)))
	}
}

// An older version accepted what is too large now: it is held, whole and deletable.
func TestStore_Verify_heldLargeIndex(t *testing.T) {
	f := newFixture(t)
	body := index(children(image.MaxReferences + 1)...)
	p, err := image.Parse("", body)
	f.must(err)
	m := Manifest{Digest: digest.FromBytes(body), MediaType: p.MediaType, Body: body, Created: f.clock.now()}
	f.must(f.share(f.ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := insertManifest(ctx, tx, &m, p); err != nil {
			return err
		}
		return f.showManifest(ctx, tx, "a/x", &m, p, byPush, nil)
	}))
	if got := f.verified(VerifyOptions{}); !got.Clean() || got.References != image.MaxReferences+1 {
		t.Errorf("%d references, problems: %v", got.References, got.Problems)
	}
	f.must(f.DeleteManifest(f.ctx, "a/x", m.Digest))
}

func TestStore_PutManifest_tags(t *testing.T) {
	f := newFixture(t)
	body := index()
	tags := make([]string, MaxTags+1)
	for i := range tags {
		tags[i] = fmt.Sprint("v", i)
	}
	var invalid *InvalidError
	if _, err := f.PutManifest(f.ctx, "a/x", body, PutOptions{Tags: tags}); !errors.As(err, &invalid) {
		t.Errorf("with %d tags: %v", len(tags), err)
	}
	_, err := f.PutManifest(f.ctx, "a/x", body, PutOptions{Tags: tags[1:]})
	f.must(err)
}
