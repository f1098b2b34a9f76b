package oci

import (
	"net/http"
	"sync"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// uploads counts, by user, the blobs that are arriving: each costs a connection, a file and disk
// time. An idle session costs none of them and is not counted.
type uploads struct {
	limit int // 0: none

	mu     sync.Mutex // guards active
	active map[string]int
}

// begin counts an upload or refuses it. The caller calls end when the body has been read.
//
// At the limit the POST that opens a session is refused too, but it is not counted: most clients
// retry after a 429 to it and give up after a 429 to a body.
func (u *uploads) begin(r *http.Request, t target) (end func(), err error) {
	if u.limit == 0 || t.kind != kindUpload && t.kind != kindUploads {
		return func() {}, nil
	}
	id, _ := auth.IdentityFrom(r.Context())
	carries := r.Method == http.MethodPatch || r.Method == http.MethodPut ||
		r.Method == http.MethodPost && r.URL.Query().Has("digest")
	if !carries && r.Method != http.MethodPost {
		return func() {}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.active[id.Name] >= u.limit {
		return nil, refuse(http.StatusTooManyRequests, codeTooMany, "this user has %d uploads under way, "+
			"the most that are accepted; wait for some to end", u.limit).with("Retry-After", "1")
	}
	if !carries {
		return func() {}, nil
	}
	u.active[id.Name]++
	return func() { u.ended(id.Name) }, nil
}

func (u *uploads) ended(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.active[name]--; u.active[name] <= 0 {
		delete(u.active, name)
	}
}
