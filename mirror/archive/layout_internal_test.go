package archive

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Regions never overlap, gaps neither, and together they fill each chunk to its end.
func TestLayout_regionsFillTheChunks(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := &layout{dir: t.TempDir(), limit: 32 << 10, created: time.Now(), added: func(*chunk) error { return nil }}
		var taken []*region
		for range 300 {
			if len(taken) > 0 && r.IntN(3) == 0 {
				i := r.IntN(len(taken))
				l.release(taken[i])
				taken = slices.Delete(taken, i, i+1)
			} else {
				got, _, err := l.reserve(int64(1+r.IntN(80)) * block)
				if err != nil {
					t.Fatal(err)
				}
				taken = append(taken, got)
			}
			check(t, l, taken)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}
}

func check(t *testing.T, l *layout, taken []*region) {
	t.Helper()
	for _, c := range l.chunks {
		parts := slices.Clone(c.gaps)
		for _, r := range taken {
			if r.chunk == c {
				parts = append(parts, r.gap)
			}
		}
		slices.SortFunc(parts, func(a, b gap) int { return cmp.Compare(a.offset, b.offset) })
		at := int64(infoLength)
		for _, p := range parts {
			if p.offset != at || p.length < block {
				t.Fatalf("chunk %d has %v, with a gap or an overlap at %d", c.number, parts, at)
			}
			at = p.end()
		}
		if at != c.end || !c.alone && at+trailer > l.limit {
			t.Fatalf("chunk %d ends at %d and says %d", c.number, at, c.end)
		}
	}
}
