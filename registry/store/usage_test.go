package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestStore_Usage compares what is counted page by page with a count of all that was pushed.
func TestStore_Usage(t *testing.T) {
	f := newFixture(t)
	defer func(size stepSize) { usagePage = size }(usagePage)
	usagePage = stepSize{3, 3}
	in := map[digest.Digest]map[string]bool{} // the repositories of each blob
	sizes := map[digest.Digest]int64{}
	for i := range 40 {
		content := fmt.Sprintf("%0*d", 10+i, i)
		for r := range i % 4 { // none at all for every fourth
			repo := fmt.Sprintf("team/app-%d", (i+r)%5)
			b := f.blob(repo, content)
			if in[b.Digest] == nil {
				in[b.Digest] = map[string]bool{}
			}
			in[b.Digest][repo], sizes[b.Digest] = true, b.Size
		}
	}
	lone := f.blob("team/gone", "linked nowhere any more")
	f.must(f.Blobs.Delete(f.ctx, "team/gone", lone.Digest))

	want := Usage{Unlinked: BlobSum{1, lone.Size}}
	by := map[string]*RepositoryUsage{}
	for d, repos := range in {
		for repo := range repos {
			if by[repo] == nil {
				by[repo] = &RepositoryUsage{Name: repo}
			}
			if len(repos) == 1 {
				by[repo].Own.add(1, sizes[d])
			} else {
				by[repo].Shared.add(1, sizes[d])
			}
		}
		if len(repos) == 1 {
			want.Own.add(1, sizes[d])
		} else {
			want.Shared.add(1, sizes[d])
		}
	}
	want.All = BlobSum{int64(len(in)) + 1, want.Own.Bytes + want.Shared.Bytes + lone.Size}

	var told []int64
	got, err := f.Usage(f.ctx, func(n int64) { told = append(told, n) })
	f.must(err)
	if got.All != want.All || got.Own != want.Own || got.Shared != want.Shared || got.Unlinked != want.Unlinked {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if len(got.Repositories) != len(by) {
		t.Errorf("%d repositories, want %v", len(got.Repositories), slices.Collect(maps.Keys(by)))
	}
	for _, r := range got.Repositories {
		if by[r.Name] == nil || r != *by[r.Name] {
			t.Errorf("%s has %+v, want %+v", r.Name, r, by[r.Name])
		}
	}
	if !slices.IsSorted(told) || len(told) < 10 || told[len(told)-1] != want.All.Blobs {
		t.Errorf("the progress was %v", told)
	}
}

func TestGarbage_Reclaimable(t *testing.T) {
	f := newFixture(t)
	f.pushImage("a/b", "kept", "v1")
	gone := f.pushImage("a/b", "gone")
	f.must(f.Manifests.Delete(f.ctx, "a/b", gone.Digest))
	young := f.clock.now().Add(-time.Hour)
	for before, blobs := range map[time.Time]bool{f.clock.add(time.Hour): true, young: false} {
		sum, err := f.Garbage.Reclaimable(f.ctx, before, before)
		f.must(err)
		if (sum.Blobs > 0) != blobs || (sum.Bytes > 0) != blobs {
			t.Errorf("before %s: %+v", before, sum)
		}
	}
}
