package upstream

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// A place is a server at another address of this machine than the upstream. It counts its requests.
type place struct {
	*httptest.Server
	asked atomic.Int32
	auth  atomic.Value
}

func newPlace(t *testing.T, address string, answer http.HandlerFunc) *place {
	t.Helper()
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Skip("no such address here: ", err)
	}
	p := &place{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.auth.Store(r.Header.Get("Authorization"))
		answer(w, r)
	}))
	_ = p.Listener.Close()
	p.Listener = l
	p.Start()
	t.Cleanup(p.Close)
	return p
}

// redirecting makes an upstream redirect paths with part.
func redirecting(part, to string) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		return true
	}
}

const secretText = "a secret of this network"

func secrets(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, secretText)
}

func TestClient_redirectedManifest_isNotFollowedIntoTheNetwork(t *testing.T) {
	for name, to := range map[string]string{"loopback": "127.0.0.1", "another address of this machine": "127.0.0.3"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			inside := newPlace(t, to, secrets)
			for _, part := range []string{"/manifests/", "/referrers/"} {
				f.fault = redirecting(part, inside.URL+"/latest/meta-data")
				c := f.client(t)
				_, _, err1 := c.Manifest(t.Context(), repo, "v1")
				_, err2 := c.Resolve(t.Context(), repo, "v1")
				_, err3 := c.Referrers(t.Context(), repo, f.manifest)
				for _, err := range []error{err1, err2, err3} {
					if err != nil && strings.Contains(err.Error(), secretText) {
						t.Errorf("%s: %v", part, err)
					}
				}
			}
			if n := inside.asked.Load(); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestClient_redirectedManifest_isFollowedWithinTheHost(t *testing.T) {
	f := newFixture(t)
	f.fault = redirecting("/manifests/v1", "/v2/"+repo+"/manifests/"+f.manifest.String())
	if desc, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil || desc.Digest != f.manifest {
		t.Errorf("got %s, %v", desc.Digest, err)
	}
}

// withStorage returns a fixture whose upstream has another address than newPlace's at
// 127.0.0.1, of the given kind.
func withStorage(t *testing.T, upstream, storage reach) (*fixture, *Client) {
	t.Helper()
	f := prepare(t)
	f.server = newPlace(t, "127.0.0.2", f.ServeHTTP).Server
	c := f.client(t)
	c.hosts.of = func(ip netip.Addr) reach {
		switch ip.String() {
		case "127.0.0.1":
			return storage
		case "127.0.0.2":
			return upstream
		}
		return reachOf(ip)
	}
	return f, c
}

func TestClient_redirectedBlob_isFollowedByTheRule(t *testing.T) {
	const public, refused = reach(0), "not a public one"
	for name, test := range map[string]struct {
		upstream, storage reach
		want              string
	}{
		"from the world to the world":          {public, public, ""},
		"from the world to this machine":       {public, reachLoopback, refused},
		"from the world to the network":        {public, reachPrivate, refused},
		"from the world to the link":           {public, reachLinkLocal, refused},
		"from the network to the network":      {reachPrivate, reachPrivate, ""},
		"from the network to this machine":     {reachPrivate, reachLoopback, refused},
		"from the network to the link":         {reachPrivate, reachLinkLocal, refused},
		"from this machine to this machine":    {reachLoopback, reachLoopback, ""},
		"from this machine to the network":     {reachLoopback, reachPrivate, ""},
		"from this machine to the link":        {reachLoopback, reachLinkLocal, refused},
		"from a reserved address to one":       {reachNothing, reachNothing, refused},
		"from the network to the world":        {reachPrivate, public, ""},
		"from the world to a reserved address": {public, reachNothing, refused},
	} {
		for _, as := range []string{"127.0.0.1", "localhost"} { // an address, and a name that resolves to it
			t.Run(name+" as "+as, func(t *testing.T) {
				f, c := withStorage(t, test.upstream, test.storage)
				storage := newPlace(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.layer) })
				f.fault = redirecting("/blobs/", strings.Replace(storage.URL, "127.0.0.1", as, 1)+"/x?signature=s1gned")
				_, err := readBlob(t.Context(), c, f.blob)
				_, err2 := c.Stat(t.Context(), repo, f.blob)
				if test.want == "" {
					if err != nil || err2 != nil {
						t.Errorf("got %v, %v", err, err2)
					}
					return
				}
				for _, err := range []error{err, err2} {
					e := asError(t, err)
					wantText(t, e.Error(), test.want)
					if strings.Contains(e.Error(), "s1gned") {
						t.Errorf("got %v", e)
					}
				}
				if storage.asked.Load() != 0 || len(f.naps) != 0 {
					t.Errorf("%d requests, tried %d times", storage.asked.Load(), len(f.naps)+1)
				}
			})
		}
	}
}

func TestClient_redirectedBlob_keepsTheAnswerToItself(t *testing.T) {
	f := newFixture(t)
	storage := newPlace(t, "127.0.0.1", secrets)
	f.fault = redirecting("/blobs/", storage.URL)
	c := f.client(t, password("ann", "s3cret"))
	_, err := readBlob(t.Context(), c, f.blob)
	e := asError(t, err)
	wantText(t, e.Error(), "403 Forbidden", strings.TrimPrefix(storage.URL, "http://"))
	if strings.Contains(e.Error(), secretText) || e.Code != "" {
		t.Errorf("got %v", e)
	}
	if storage.auth.Load() != "" {
		t.Error("the storage got the registry's credentials")
	}
}

// net/http's error has the text of a service that does not speak HTTP.
func TestClient_redirectedBlob_keepsAGreetingToItself(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn)) // an earlier greeting is ignored
			fmt.Fprint(conn, "220-secret\r\n")             // one word, which net/http's error repeats
			_ = conn.Close()
		}
	}()
	f.fault = redirecting("/blobs/", "http://"+l.Addr().String())
	_, err = readBlob(t.Context(), f.client(t), f.blob)
	if e := asError(t, err); strings.Contains(e.Error(), "secret") {
		t.Errorf("got %v", e)
	}
}

// The upstream also chooses the token server.
func TestClient_tokenServer_onAnotherHost(t *testing.T) {
	challenge := func(realm string) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Authorization") == "Bearer t" {
				return false
			}
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q`, realm))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	}
	token := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"t"}`)) }
	t.Run("in the network gets no request", func(t *testing.T) {
		f, c := withStorage(t, 0, reachPrivate)
		tokens := newPlace(t, "127.0.0.1", token)
		f.fault = challenge(strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1))
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		wantText(t, asError(t, err).Error(), "not a public one")
		if n := tokens.asked.Load(); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("at a private address gets no request, and the reason has a hint", func(t *testing.T) {
		f, c := withStorage(t, reachLoopback, reachLoopback)
		tokens := newPlace(t, "127.0.0.1", token)
		f.fault = challenge(tokens.URL)
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		wantText(t, asError(t, err).Error(), "is a private or link-local address")
		wantText(t, asError(t, err).Hint(), "by a host name")
		if n := tokens.asked.Load(); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("over plain HTTP gets no credentials", func(t *testing.T) {
		f, _ := withStorage(t, reachLoopback, reachLoopback)
		tokens := newPlace(t, "127.0.0.1", token)
		f.fault = challenge(strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1))
		if _, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
		_, _, err := f.client(t, password("ann", "s3cret")).Manifest(t.Context(), repo, "v1")
		wantText(t, asError(t, err).Error(), "over HTTPS only")
		if n := tokens.asked.Load(); n != 1 || tokens.auth.Load() != "" {
			t.Errorf("%d requests, with %q", n, tokens.auth.Load())
		}
	})
	t.Run("does not redirect to another host", func(t *testing.T) {
		f, c := withStorage(t, reachLoopback, reachLoopback)
		other := newPlace(t, "127.0.0.1", token)
		tokens := newPlace(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
			// By name: go-containerregistry itself refuses addresses.
			http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1), http.StatusTemporaryRedirect)
		})
		f.fault = challenge(strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1))
		if _, err := readBlob(t.Context(), c, f.blob); err == nil {
			t.Error("it was followed")
		}
		if n := other.asked.Load(); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("keeps its answer to itself", func(t *testing.T) {
		f, c := withStorage(t, reachLoopback, reachLoopback)
		tokens := newPlace(t, "127.0.0.1", secrets)
		f.fault = challenge(strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1))
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		if e := asError(t, err); strings.Contains(e.Error(), secretText) || e.Status != http.StatusForbidden {
			t.Errorf("got %v", e)
		}
	})
}

// registry.k8s.io redirects manifests to another registry.
func TestClient_redirectedManifest_isFollowedToAPublicRegistry(t *testing.T) {
	f := prepare(t)
	behind := httptest.NewTLSServer(f)
	defer behind.Close()
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			http.Redirect(w, r, behind.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
	}))
	defer front.Close()
	f.server = front
	for _, test := range []struct {
		is reach
		ok bool
	}{{0, true}, {reachLoopback, false}, {reachPrivate, false}} {
		c := f.client(t, func(o *Options) { o.SkipVerify = true })
		c.hosts.of = func(netip.Addr) reach { return test.is } // of both hosts: only blobs may be redirected to the upstream's kind
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		if (err == nil) != test.ok {
			t.Errorf("%d: got %v", test.is, err)
		}
	}
}

// An upstream without TLS redirects to storage with TLS, which redirects to plain HTTP: that can
// be changed on the way.
func TestClient_redirectFromHTTPSToHTTP_isNotFollowed(t *testing.T) {
	for name, back := range map[string]bool{"to another host": false, "back to the upstream": true} {
		t.Run(name, func(t *testing.T) {
			f, _ := withStorage(t, reachLoopback, reachLoopback)
			third := newPlace(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.layer) })
			to := third.URL + "/x"
			if back {
				to = f.server.URL + "/x"
			}
			storage := httptest.NewTLSServer(http.RedirectHandler(to, http.StatusTemporaryRedirect))
			defer storage.Close()
			f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				switch {
				case r.URL.Path == "/x":
					third.asked.Add(1)
				case strings.Contains(r.URL.Path, "/blobs/"):
					http.Redirect(w, r, storage.URL+"/x", http.StatusTemporaryRedirect)
				default:
					return false
				}
				return true
			}
			_, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.SkipVerify = true }), f.blob)
			wantText(t, asError(t, err).Error(), "from HTTPS to HTTP")
			if n := third.asked.Load(); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestClient_redirectedManifest_isFollowedWithTLSOnly(t *testing.T) {
	f, c := withStorage(t, 0, 0) // both public
	behind := newPlace(t, "127.0.0.1", f.ServeHTTP)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		redirects := strings.HasPrefix(r.Host, "127.0.0.2") && strings.Contains(r.URL.Path, "/manifests/")
		if redirects {
			http.Redirect(w, r, behind.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
		return redirects
	}
	_, _, err := c.Manifest(t.Context(), repo, "v1")
	wantText(t, asError(t, err).Error(), "without TLS")
	if n := behind.asked.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestReachOf_kindsOfAddresses(t *testing.T) {
	for text, want := range map[string]reach{
		"8.8.8.8": 0, "2606:4700::1111": 0, "172.32.0.1": 0, "100.128.0.1": 0, "64:ff9b::808:808": 0,
		"127.0.0.1": reachLoopback, "127.255.1.1": reachLoopback, "0.0.0.0": reachLoopback, "0.1.2.3": reachLoopback,
		"::1": reachLoopback, "::": reachLoopback, "::ffff:127.0.0.1": reachLoopback,
		"10.1.2.3": reachPrivate, "172.16.0.1": reachPrivate, "192.168.1.1": reachPrivate, "100.64.0.1": reachPrivate,
		"fd00::1": reachPrivate, "fc00::1": reachPrivate, "fec0::1": reachPrivate, "::ffff:10.0.0.1": reachPrivate,
		"64:ff9b::a00:1": reachPrivate, "2002:a00:1::": reachPrivate,
		"169.254.169.254": reachLinkLocal, "fe80::1": reachLinkLocal, "fe80::1%eth0": reachLinkLocal,
		"::ffff:169.254.169.254": reachLinkLocal, "100.100.100.200": reachLinkLocal, "fd00:ec2::254": reachLinkLocal,
		"64:ff9b::a9fe:a9fe": reachLinkLocal, "168.63.129.16": reachLinkLocal,
		"224.0.0.1": reachNothing, "255.255.255.255": reachNothing, "240.0.0.1": reachNothing, "ff02::1": reachNothing,
		"::7f00:1": reachNothing, "2001:0:1::1": reachNothing,
	} {
		if got := reachOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func TestCheckName_beforeAProxy(t *testing.T) {
	for host, ok := range map[string]bool{
		"203.0.113.7": true, "storage.invalid": true,
		"10.0.0.1": false, "::1": false, "169.254.169.254": false, "localhost": false, "LOCALHOST.": false, "x.localhost": false,
		"2130706433": false, "0x7f000001": false, "0177.0.0.1": false, "127.1": false, "": false,
	} {
		if err := checkName(t.Context(), host, 0, reachOf); (err == nil) != ok {
			t.Errorf("%q: got %v", host, err)
		}
	}
	if err := checkName(t.Context(), "10.0.0.1", reachPrivate, reachOf); err != nil {
		t.Errorf("for an upstream in the network: got %v", err)
	}
}
