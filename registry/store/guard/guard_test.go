package guard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

const dA = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

// clock is a time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) add(d time.Duration) time.Time {
	c.t = c.t.Add(d)
	return c.t
}

// check has a blob checked, of which no link is being removed.
func check(b *Blobs, l Link) { _, _, _ = b.Check(context.Background(), l, "", 0) }

// A row that was read before a removal must not be vouched for after it.
func TestBlobs_Check_noticesARemovalMeanwhile(t *testing.T) {
	b := newBlobs(time.Now)
	before := b.Epoch()
	b.Mark(dA, time.Now())
	during := b.Epoch()
	b.Unmark(dA)
	for _, read := range []uint64{before, during} {
		if gone, again, _ := b.Check(t.Context(), Link{Digest: dA}, "", read); gone || !again {
			t.Errorf("gone %v, again %v: the caller would trust a row that does not exist any more", gone, again)
		}
	}
	if gone, again, _ := b.Check(t.Context(), Link{Digest: dA}, "", b.Epoch()); gone || again {
		t.Errorf("gone %v, again %v: what was pushed again is denied", gone, again)
	}
}

// A link that is being removed may be made again before its mark is removed: its row decides, after.
func TestBlobs_Check_waitsForALinkToBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBlobs(time.Now)
		l := Link{"app", dA}
		if !b.MarkLink(l, time.Now()) || b.MarkLink(l, time.Now()) {
			t.Fatal("a link is marked once")
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, _, err := b.Check(ended, l, "", b.Epoch()); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of its context: %v", err)
		}
		if gone, again, err := b.Check(t.Context(), Link{"other", dA}, "", b.Epoch()); gone || again || err != nil {
			t.Errorf("of another repository: gone %v, again %v, %v", gone, again, err)
		}
		answered := make(chan bool, 1)
		go func() {
			gone, again, err := b.Check(t.Context(), l, "", b.Epoch())
			answered <- !gone && again && err == nil
		}()
		synctest.Wait()
		if len(answered) != 0 {
			t.Error("Check did not wait")
		}
		b.UnmarkLinks([]Link{l})
		if !<-answered {
			t.Error("the caller would not read the row again")
		}
	})
}

func TestBlobs_Mark(t *testing.T) {
	for name, tc := range map[string]struct {
		use    func(b *Blobs)
		marked bool
		now    bool // MarkNow, by nothing that puts the blob
	}{
		"unused":                {func(*Blobs) {}, true, true},
		"checked":               {func(b *Blobs) { check(b, Link{"app", dA}) }, false, true},
		"put for a manifest":    {func(b *Blobs) { b.Expect("app", dA) }, false, true},
		"being put":             {func(b *Blobs) { _ = b.Enter(t.Context(), dA) }, false, false},
		"put":                   {func(b *Blobs) { _ = b.Enter(t.Context(), dA); b.Leave(dA) }, true, true},
		"marked":                {func(b *Blobs) { b.Mark(dA, time.Now()) }, false, false},
		"its manifest has come": {func(b *Blobs) { b.Expect("app", dA); b.Unexpect("app", time.Now(), dA) }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBlobs(time.Now)
			before := time.Now()
			tc.use(b)
			if got := b.Mark(dA, before); got != tc.marked {
				t.Errorf("marked: %v", got)
			}
			b = newBlobs(time.Now)
			tc.use(b)
			if got := b.MarkNow(dA, 0); got != tc.now {
				t.Errorf("marked now: %v", got)
			}
		})
	}
}

func TestBlobs_oldChecksAreForgotten(t *testing.T) {
	c := &clock{t: time.Now()}
	b := newBlobs(c.now)
	for i := range 5000 {
		check(b, Link{Digest: digest.FromString(fmt.Sprint(i))})
	}
	c.add(2 * ChecksKept)
	for i := range 9000 {
		check(b, Link{Digest: digest.FromString(fmt.Sprint("new", i))})
	}
	if n := len(b.checks.at); n != 9000 {
		t.Errorf("%d checks are remembered", n)
	}
}

func TestBlobs_pushesAreForgotten(t *testing.T) {
	c := &clock{t: time.Now()}
	b := newBlobs(c.now)
	for i := range 5000 {
		b.Expect("old", digest.FromString(fmt.Sprint(i)))
	}
	c.add(PushTakes)
	for i := range 9000 {
		b.Expect("new", digest.FromString(fmt.Sprint("new", i)))
	}
	if n := len(b.expected.manifests); n != 9000 {
		t.Errorf("%d are remembered", n)
	}
	until := c.now()
	c.add(1)
	b.Expect("new", dA) // by a client that the manifest is not of
	b.Unexpect("new", until, dA)
	if !b.Spared(dA, c.add(time.Second)) {
		t.Error("what was put after a manifest went with it")
	}
	b.Unexpect("new", c.now(), dA)
	for i := range 9000 {
		b.Unexpect("new", c.now(), digest.FromString(fmt.Sprint("new", i)))
	}
	if n := len(b.expected.manifests); n != 0 {
		t.Errorf("%d are remembered after their manifests", n)
	}
}

func TestRuns_Active(t *testing.T) {
	var r Runs
	now := time.Now()
	r.Enter("put")
	if err := r.EnterCommit(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	r.HeardOf("heard", now)
	for id, want := range map[string]bool{"put": true, "commit": true, "heard": true, "other": false} {
		if got := r.Active(id, now); got != want || r.Committing(id) != (id == "commit") {
			t.Errorf("%s is active: %v", id, got)
		}
	}
	r.Leave("put")
	r.LeaveCommit("commit")
	for _, id := range []string{"put", "commit", "heard"} {
		if r.Active(id, now.Add(1)) {
			t.Errorf("%s is active still", id)
		}
	}
}
