package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/mirror-appliance/appliance/registry/store"
)

func TestMetrics_whoMaySeeThem(t *testing.T) {
	d := openDaemon(t, io.Discard)
	hash, err := bcrypt.GenerateFromPassword([]byte("long-enough"), bcrypt.MinCost)
	must(t, err)
	must(t, d.store.Users.Put(t.Context(), store.User{Name: "pull", Role: "pull", Repositories: []string{"a/*"}, PasswordHash: hash}))
	for name, tc := range map[string]struct {
		remote, password, forwarded string
		open                        bool
		want                        int
	}{
		"this host":                        {remote: "127.0.0.1:1", want: 200},
		"this host over IPv6":              {remote: "[::1]:1", want: 200},
		"this host as IPv6 writes it":      {remote: "[::ffff:127.0.0.1]:1", want: 200},
		"another":                          {remote: "192.0.2.1:1", want: 401},
		"another that says it is this one": {remote: "192.0.2.1:1", forwarded: "127.0.0.1", want: 401},
		"a user elsewhere":                 {remote: "192.0.2.1:1", password: "long-enough", want: 200},
		"a wrong password elsewhere":       {remote: "192.0.2.1:1", password: "wrong", want: 401},
		"another, where they are open":     {remote: "192.0.2.1:1", open: true, want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			d.cfg.OpenMetrics = tc.open
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.RemoteAddr = tc.remote
			r.Header.Set("X-Forwarded-For", tc.forwarded)
			if tc.password != "" {
				r.SetBasicAuth("pull", tc.password)
			}
			w := httptest.NewRecorder()
			d.public().ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
		})
	}
}
