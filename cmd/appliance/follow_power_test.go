package main_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/powercut"
)

var cuts = flag.Int("cuts", 4, "TestPromote_powerCut: how often the power is cut")

// powered starts a daemon whose power can be cut.
func (s *site) powered(t *testing.T) *powercut.Process {
	t.Helper()
	root, err := filepath.EvalSymlinks(s.root)
	must(t, err)
	c := s.daemon()
	p, err := powercut.Start(c, root, 0)
	must(t, err)
	s.process, s.faulty.gone = c, p.Ended()
	s.awaitsAnswer(t)
	return p
}

// comesUp starts a daemon on what a power cut has left.
func (s *site) comesUp(t *testing.T, p *powercut.Process, random *rand.Rand) {
	t.Helper()
	p.Cut()
	must(t, p.Err())
	s.wait()
	must(t, p.Leave(s.root, random))
	s.verify(t)
	s.start(t)
}

// The power of either is cut while one is promoted, or right after: never do both take changes, a promotion that
// was acknowledged stays, and what was pushed before and after it is there.
func TestPromote_powerCut(t *testing.T) {
	with := rand.Uint64()
	t.Logf("seed %d", with)
	random := rand.New(rand.NewPCG(with, 1))
	primary, follower := newSite(t), newSite(t)
	follower.works(t, follower.follow(t, primary)...)
	var pushed []*testImage
	push := func(s *site, n int, when string) error {
		m := newTestImage("app", fmt.Sprint(when, n), randomBytes(100<<10))
		err := s.push(t.Context(), m)
		if err == nil {
			pushed = append(pushed, m)
		}
		return err
	}
	during := 0
	for n := range *cuts {
		must(t, push(primary, n, "before"))
		follower.awaits(t, caughtUp)
		victim := []*site{follower, primary}[n%2]
		victim.stop(t)
		p := victim.powered(t)
		p.CutAfter(1 + random.IntN(40))
		code, _, stderr := follower.run(t, "promote", "--quayRoot", follower.root)
		select {
		case <-p.Ended():
			during++
		default:
			if victim != follower || code != 0 {
				break
			}
			if err := push(follower, n, "after"); err != nil { // the power was cut meanwhile
				select {
				case <-p.Ended():
				case <-time.After(patience):
					t.Fatal(err)
				}
			}
		}
		victim.comesUp(t, p, random)
		switch {
		case primary.isPrimary(t) && follower.isPrimary(t):
			t.Fatalf("round %d: both take changes", n)
		case code == 0 && !follower.isPrimary(t):
			t.Fatalf("round %d: the promotion was acknowledged, and is lost", n)
		case code != 0:
			t.Logf("round %d: the promotion ended with %s", n, stderr)
			follower.works(t, "promote", "--quayRoot", follower.root)
		}
		if primary.isPrimary(t) || !follower.isPrimary(t) {
			t.Fatalf("round %d: the promotion has not completed", n)
		}
		for _, m := range pushed {
			if whole, err := follower.pull(t.Context(), m); err != nil || !whole {
				t.Errorf("round %d: %s:%s was acknowledged, and is lost: %v", n, m.repo, m.tag, err)
			}
		}
		primary, follower = follower, primary
		follower.works(t, follower.follow(t, primary)...)
	}
	if t.Logf("%d of %d cuts came while the promotion was under way", during, *cuts); during == 0 && *cuts > 9 {
		t.Error("no cut came meanwhile")
	}
}
