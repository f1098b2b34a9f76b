package upstream

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// The login of a cloud's registry ends after hours, and its file is written anew.
func TestClient_readsARenewedLogin(t *testing.T) {
	for name, status := range map[string]int{"refused": http.StatusUnauthorized, "denied": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var mu sync.Mutex
			valid := "one"
			f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				mu.Lock()
				defer mu.Unlock()
				_, pw, ok := r.BasicAuth()
				switch {
				case !ok:
					w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
					w.WriteHeader(http.StatusUnauthorized)
				case pw != valid:
					w.WriteHeader(status)
				default:
					return false
				}
				return true
			}
			file := filepath.Join(t.TempDir(), "auth.json")
			login := func(password string) {
				write(t, file, `{"auths":{"`+f.host()+`":`+entry("u:"+password)+`}}`)
			}
			login("one")
			c := f.client(t, func(o *Options) { o.Keychain = Keychain(file) })
			read := func() error {
				_, _, err := c.Manifest(t.Context(), repo, "v1")
				return err
			}
			if err := read(); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			valid = "two"
			mu.Unlock()
			if e := asError(t, read()); e.Status != status {
				t.Errorf("before the login is renewed: %v", e)
			}
			login("two")
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					if err := read(); err != nil {
						t.Errorf("after the login was renewed: %v", err)
					}
				})
			}
			all.Wait()
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := read(); err != nil {
				t.Errorf("a login that is good is not read again: %v", err)
			}
		})
	}
	t.Run("refused by a token server", func(t *testing.T) {
		f := newFixture(t)
		s := &tokenServer{f: f}
		f.fault = s.fault
		k := &keys{}
		c := f.client(t, func(o *Options) { o.Keychain = k })
		for _, password := range []string{"s3cret", "hunter2", "s3cret"} {
			k.Authenticator = &authn.Basic{Username: "ann", Password: password}
			s.mu.Lock()
			s.valid = ""
			s.password = password
			s.mu.Unlock()
			if _, _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
				t.Errorf("with the password %s: %v", password, err)
			}
		}
	})
}

// Some registries deny a token that has expired, in place of asking for another.
func TestClient_renewsADeniedToken(t *testing.T) {
	f := newFixture(t)
	s := &tokenServer{f: f}
	f.fault = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if r.Header.Get("Authorization") == "Bearer "+s.current() || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			return s.fault(w, r, nth)
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	var now atomic.Int64
	c := f.client(t, password("ann", "s3cret"), func(o *Options) {
		o.now = func() time.Time { return time.Unix(now.Load(), 0) }
	})
	read := func() error {
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	s.expire()
	if e := asError(t, read()); e.Status != http.StatusForbidden {
		t.Errorf("right after the login: %v", e)
	}
	now.Add(6)
	if err := read(); err != nil {
		t.Errorf("later: %v", err)
	}
}

// Tokens that are good for one request each, as those of a second are on a slow line.
func TestClient_tokensOfASecond(t *testing.T) {
	f := newFixture(t)
	s := &tokenServer{f: f}
	var parts atomic.Int32
	f.fault = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if s.fault(w, r, nth) {
			return true
		}
		s.expire()
		if strings.Contains(r.URL.Path, "/blobs/") && parts.Add(1) == 1 {
			sendPart(w, f.layer, 2<<20)
			cut()
		}
		return false
	}
	c := f.client(t, password("ann", "s3cret"))
	for range 3 {
		if _, _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readBlob(t.Context(), c, f.blob)
	if err != nil || !bytes.Equal(got, f.layer) || parts.Load() != 2 {
		t.Errorf("%d bytes in %d parts, %v", len(got), parts.Load(), err)
	}
	if _, err := c.Tags(t.Context(), repo); err != nil {
		t.Error(err)
	}
}

func (s *tokenServer) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valid
}

func (s *tokenServer) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.valid = "none"
}
