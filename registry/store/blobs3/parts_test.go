//go:build s3

package blobs3_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// A bucket with few blobs is listed by a request for each thousand, and one with many part by part.
func TestParts_requests(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server, "")
	var lists atomic.Int32
	server.Fault(func(r *http.Request) s3test.Action {
		if s3test.IsList(r) {
			lists.Add(1)
		}
		return s3test.Pass
	})
	var want []string
	check := func(most int32) {
		t.Helper()
		lists.Store(0)
		parts, err := s.Parts(t.Context(), digest.SHA256)
		must(t, err)
		var names []string
		for _, p := range parts {
			some, err := p.Names(t.Context())
			must(t, err)
			for _, name := range some {
				if d, ok := p.Digest(name); !ok || d.Encoded() != name {
					t.Errorf("%s of part %s is %s, %v", name, p.Prefix(), d, ok)
				}
			}
			names = append(names, some...)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%d names are listed of %d", len(names), len(want))
		}
		if n := lists.Load(); n > most {
			t.Errorf("%d requests for %d blobs, want %d at most", n, len(want), most)
		}
		t.Logf("%d requests for %d blobs", lists.Load(), len(want))
	}
	put := func(from, to int) {
		for n := from; n < to; n++ {
			d := digest.FromString(fmt.Sprint(n))
			path := filepath.Join(server.Dir, blobstore.Name(d))
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, nil, 0o644))
			want = append(want, d.Encoded())
		}
		slices.Sort(want)
	}
	check(1)
	put(0, 3)
	check(1)
	put(3, 1500)
	check(2)
	put(1500, 10_001)
	check(11 + 256)
}
