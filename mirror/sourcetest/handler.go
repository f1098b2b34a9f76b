package sourcetest

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Handler returns a registry that has the content as its repository a/b.
func (c Content) Handler() http.Handler {
	var once sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, ref, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/a/b/"), "/")
		d, known := c.Tags[ref]
		if !known {
			d = digest.Digest(ref)
		}
		data, ok := c.Blobs[d]
		if kind == "manifests" {
			data, ok = c.Manifests[d]
			w.Header().Set("Content-Type", c.MediaType)
		}
		switch {
		case r.URL.Path == "/v2/":
			return
		case !ok:
			http.NotFound(w, r)
			return
		case d == c.Breaks && r.Method == http.MethodGet:
			once.Do(func() {
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				panic(http.ErrAbortHandler)
			})
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}
