package upstream

import (
	"net/http"
	"testing"
)

func TestClient_answersAChallengeAfterAnOpenPing(t *testing.T) {
	f := newFixture(t)
	s := &tokenServer{f: f}
	f.fault = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		return r.URL.Path != "/v2/" && s.fault(w, r, nth)
	}
	c := f.client(t, password("ann", "s3cret"))
	for range 2 {
		if _, _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if s.issued != 1 {
		t.Errorf("%d tokens were issued for one session", s.issued)
	}
	_, _, err := f.client(t, password("ann", "hunter2")).Manifest(t.Context(), repo, "v1")
	if e := asError(t, err); e.Status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %v", e)
	}
}
