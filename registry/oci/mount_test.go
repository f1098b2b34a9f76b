package oci

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A mount does not give access to a blob of a repository that the user may not read. The client
// gets an upload session, as for a blob that does not exist.
func TestMount_withoutTheRight(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*")
	f.seed("other", "team/a", "open/x")
	layer := func(n uint64) digest.Digest { return digest.FromBytes(randomBytes(100+n, 1000)) } // that seed made
	secret, mine, open := layer(0), layer(1), layer(2)
	post := func(status int, user, query string) reply {
		t.Helper()
		return f.do(status, "POST", "/v2/team/b/blobs/uploads/?"+query, nil, as(user)...)
	}
	var shape []string
	for _, query := range []string{
		"mount=" + d256 + "&from=team/a", // does not exist
		"mount=" + secret.String() + "&from=other",
		"mount=" + d256 + "&from=other",
		"mount=" + d256 + "&from=nowhere",
		"mount=" + d256 + "&from=NOT/a:name",
		"mount=" + secret.String() + "&from=team/a",
		"mount=" + secret.String(),
		"mount=" + d256,
		"mount=x&from=other",
		"mount=x",
	} {
		got := post(http.StatusAccepted, "team", query)
		headers := slices.Sorted(maps.Keys(got.Header))
		if shape == nil {
			shape = headers
		}
		if !slices.Equal(headers, shape) || len(got.body) > 0 {
			t.Errorf("%s: %v %q, want %v", query, headers, got.body, shape)
		}
		got.wantHeader(t, "Range", "0-0")
		f.do(http.StatusCreated, "PUT", with(got.Header.Get("Location"), "digest", digest.FromString("x").String()), "x", as("team")...)
	}
	f.do(http.StatusNotFound, "GET", "/v2/team/b/blobs/"+secret.String(), nil, as("team")...)
	f.do(http.StatusUnauthorized, "POST", "/v2/open/y/blobs/uploads/?mount="+open.String()+"&from=open/x", nil)
	f.do(http.StatusForbidden, "POST", "/v2/team/b/blobs/uploads/?mount="+mine.String()+"&from=team/a", nil, as("node")...)

	for query, user := range map[string]string{
		"mount=" + mine.String():                   "team",
		"mount=" + mine.String() + "&from=team/a":  "team",
		"mount=" + open.String() + "&from=open/x":  "team",
		"mount=" + open.String():                   "team",
		"mount=" + secret.String():                 "pusher",
		"mount=" + secret.String() + "&from=other": "init",
	} {
		got := post(http.StatusCreated, user, query)
		f.do(http.StatusOK, "GET", got.Header.Get("Location"), nil, as("team")...)
		f.do(http.StatusAccepted, "DELETE", got.Header.Get("Location"), nil, as("team")...)
	}
}

// A damaged blob is quarantined when it is read; after that it cannot be mounted.
func TestMount_ofAQuarantinedBlob(t *testing.T) {
	f := newFixture(t, nil)
	d := f.pushBlob("a", []byte("content")).Digest
	hex := d.Encoded()
	if err := os.Truncate(filepath.Join(f.place.Objects, "sha256", hex[:2], hex), 3); err != nil {
		t.Fatal(err)
	}
	f.do(http.StatusNotFound, "GET", "/v2/a/blobs/"+d.String(), nil)
	for _, from := range []string{"", "&from=a"} {
		f.do(http.StatusAccepted, "POST", "/v2/b/blobs/uploads/?mount="+d.String()+from, nil)
	}
}
