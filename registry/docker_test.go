package registry_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// engine pulls as a docker engine and containerd do, request by request: it follows the Bearer
// challenge, and authorizes by nothing but the token that it gets.
type engine struct {
	*running
	agent string
	user  string // empty: it has no login
}

func (e *engine) do(t *testing.T, method, to, authorization string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, nil)
	must(t, err)
	r.Header.Set("User-Agent", e.agent)
	r.Header.Set("Accept", "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json")
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := e.http.Do(r)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, body
}

var parameter = regexp.MustCompile(`(\w+)="([^"]*)"`)

// challenge gives the parameters of an answer's Bearer challenge.
func challenge(t *testing.T, resp *http.Response) map[string]string {
	t.Helper()
	for _, text := range resp.Header.Values("WWW-Authenticate") {
		if rest, ok := strings.CutPrefix(text, "Bearer "); ok {
			all := map[string]string{}
			for _, m := range parameter.FindAllStringSubmatch(rest, -1) {
				all[m[1]] = m[2]
			}
			return all
		}
	}
	t.Fatalf("%s is answered %s with the challenges %q", resp.Request.URL, resp.Status, resp.Header.Values("WWW-Authenticate"))
	return nil
}

// token fetches one for a challenge and these scopes.
func (e *engine) token(t *testing.T, asked map[string]string, scopes ...string) string {
	t.Helper()
	query := url.Values{"service": {asked["service"]}, "scope": scopes}
	login := ""
	if e.user != "" {
		query.Set("account", e.user)
		query.Set("client_id", "docker")
		query.Set("offline_token", "true")
		login = "Basic " + base64.StdEncoding.EncodeToString([]byte(e.user+":"+password))
	}
	resp, body := e.do(t, http.MethodGet, asked["realm"]+"?"+query.Encode(), login)
	var answer struct{ Token string }
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the token is answered %s %s", resp.Status, body)
	}
	return "Bearer " + answer.Token
}

// ping is the first request of a docker engine, which asks it where tokens are issued.
func (e *engine) ping(t *testing.T) map[string]string {
	t.Helper()
	resp, _ := e.do(t, http.MethodGet, "https://"+host+"/v2/", "")
	return challenge(t, resp)
}

// pulled pulls with a token and reports the first status that is not 200, and the
// answer that had it.
func (e *engine) pulled(t *testing.T, repo, query, token string) (int, *http.Response) {
	t.Helper()
	base := "https://" + host + "/v2/" + repo
	resp, body := e.do(t, http.MethodGet, base+"/manifests/v1"+query, token)
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, resp
	}
	var m v1.Manifest
	must(t, json.Unmarshal(body, &m))
	for _, d := range append(m.Layers, m.Config) {
		resp, body := e.do(t, http.MethodGet, base+"/blobs/"+d.Digest.String()+query, token)
		if resp.StatusCode != http.StatusOK {
			return resp.StatusCode, resp
		}
		if digest.FromBytes(body).String() != d.Digest.String() {
			t.Errorf("%s arrived as other bytes", d.Digest)
		}
	}
	return http.StatusOK, nil
}

const (
	dockerAgent     = "docker/27.5.1 go/go1.22.11 git-commit/4c9b3b0 kernel/6.8 os/linux arch/amd64"
	containerdAgent = "containerd/2.0.2"
)

// TestPull_asDocker pulls with nothing but tokens, without a login and with one.
func TestPull_asDocker(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AnonymousPull = []string{"open/*"} })
	for _, repo := range []string{"open/app", "shut/app", "team/app"} {
		img, err := random.Image(1000, 2)
		must(t, err)
		must(t, remote.Write(tag(t, repo+":v1"), img, r.remote(t, "push", password)...))
	}
	_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: "team", Role: "pull", Password: password, Repositories: []string{"team/*"}})
	must(t, err)
	for _, c := range []struct {
		user, repo string
		want       int
	}{
		{"", "open/app", 200}, {"", "shut/app", 401}, {"pull", "shut/app", 200}, {"team", "team/app", 200}, {"team", "open/app", 200},
		{"team", "shut/app", 403},
	} {
		e := &engine{r, dockerAgent, c.user}
		token := e.token(t, e.ping(t), "repository:"+c.repo+":pull")
		if got, _ := e.pulled(t, c.repo, "", token); got != c.want {
			t.Errorf("%q pulls %s: %d, want %d", c.user, c.repo, got, c.want)
		}
	}
	e := &engine{r, dockerAgent, "pull"}
	elsewhere := e.token(t, e.ping(t), "repository:open/app:pull")
	got, resp := e.pulled(t, "shut/app", "", elsewhere)
	if got != http.StatusUnauthorized {
		t.Fatalf("a token for another repository pulls: %d", got)
	}
	asked := challenge(t, resp)
	if asked["error"] != "insufficient_scope" || asked["scope"] != "repository:shut/app:pull" {
		t.Errorf("it is answered with %v", asked)
	}
	if got, _ := e.pulled(t, "shut/app", "", e.token(t, asked, asked["scope"])); got != http.StatusOK {
		t.Errorf("with the token that was asked for: %d", got)
	}
}

// TestPull_tokenEnds takes a token away while a pull goes on: the next request tells
// where to get another one.
func TestPull_tokenEnds(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AnonymousPull = []string{"open/*"} })
	img, err := random.Image(1000, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "shut/app:v1"), img, r.remote(t, "push", password)...))
	e := &engine{r, dockerAgent, "pull"}
	const scope = "repository:shut/app:pull"
	token := e.token(t, e.ping(t), scope)
	if got, _ := e.pulled(t, "shut/app", "", token); got != http.StatusOK {
		t.Fatalf("at first: %d", got)
	}
	whole := t
	t.Run("with its time", func(t *testing.T) {
		r.end(t)
		s, err := store.Open(t.Context(), store.Options{Database: r.cfg.Database, Storage: r.cfg.Storage, Credentials: r.cfg.StorageCredentials})
		must(t, err)
		secret, err := s.Secret(t.Context(), "upload-state")
		must(t, err)
		must(t, s.Close())
		r = r.restart(whole)
		e.running = r
		for age, want := range map[time.Duration]int{0: http.StatusOK, 10 * time.Minute: http.StatusUnauthorized} {
			got, resp := e.pulled(t, "shut/app", "", aged(t, secret, token, age))
			if got != want {
				t.Errorf("after %s: %d, want %d", age, got, want)
			}
			if want == http.StatusOK {
				continue
			}
			asked := challenge(t, resp)
			if got, _ := e.pulled(t, "shut/app", "", e.token(t, asked, asked["scope"])); got != http.StatusOK {
				t.Errorf("with the next token: %d", got)
			}
		}
	})
	t.Run("with its user", func(t *testing.T) {
		if got, _ := e.pulled(t, "shut/app", "", token); got != http.StatusOK {
			t.Fatalf("before: %d", got)
		}
		must(t, r.admin.DeleteUser(t.Context(), "pull"))
		if got, _ := e.pulled(t, "shut/app", "", token); got != http.StatusUnauthorized {
			t.Errorf("afterwards: %d", got)
		}
		_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: "pull", Role: "pull", Password: password})
		must(t, err)
		if got, _ := e.pulled(t, "shut/app", "", token); got != http.StatusUnauthorized {
			t.Errorf("by another user of that name: %d", got)
		}
	})
}

// aged is a token that was issued earlier, signed as the registry does it.
func aged(t *testing.T, secret []byte, token string, age time.Duration) string {
	t.Helper()
	derive := func(key []byte, text string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	body, _, _ := strings.Cut(strings.TrimPrefix(token, "Bearer "), ".")
	text, err := base64.RawURLEncoding.DecodeString(body)
	must(t, err)
	claims := map[string]any{}
	must(t, json.Unmarshal(text, &claims))
	claims["iat"] = time.Now().Add(-age).Unix()
	text, err = json.Marshal(claims)
	must(t, err)
	body = base64.RawURLEncoding.EncodeToString(text)
	return "Bearer " + body + "." + base64.RawURLEncoding.EncodeToString(derive(derive(secret, "appliance: tokens"), body))
}

// TestPull_ns_token pulls as containerd does from a mirror: it asks with ?ns= for the
// repository as the upstream names it, with a token for that one, and is told for which one
// it needs a token here.
func TestPull_ns_token(t *testing.T) {
	upstream := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	at := upstream.Listener.Addr().String()
	img, err := random.Image(1000, 2)
	must(t, err)
	ref, err := name.NewTag(at + "/org/image:v1")
	must(t, err)
	must(t, remote.Write(ref, img, remote.WithContext(t.Context())))
	for _, c := range []struct {
		user string
		open []string
		want int
	}{
		{"", []string{"up/*"}, 200}, {"", []string{"other/*"}, 401}, {"", []string{"org/*"}, 401},
		{"team", []string{"other/*"}, 200}, {"stranger", []string{"other/*"}, 403}, {"pull", []string{"other/*"}, 200},
	} {
		r := start(t, func(c2 *config.Config) {
			c2.AnonymousPull = c.open
			c2.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}}
		})
		for user, pattern := range map[string]string{"team": "up/*", "stranger": "org/*"} {
			_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: user, Role: "pull", Password: password, Repositories: []string{pattern}})
			must(t, err)
		}
		e := &engine{r, containerdAgent, c.user}
		query := "?ns=" + url.QueryEscape(at)
		own := e.token(t, e.ping(t), "repository:org/image:pull")
		resp, _ := e.do(t, http.MethodHead, "https://"+host+"/v2/org/image/manifests/v1"+query, own)
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != c.want {
			t.Errorf("%q, open is %q: with a token for org/image the answer is %s", c.user, c.open, resp.Status)
		}
		spoiled, _ := e.do(t, http.MethodHead, "https://"+host+"/v2/org/image/manifests/v1"+query, own+"x")
		if asked := challenge(t, spoiled); asked["scope"] != "repository:up/org/image:pull" || asked["error"] != "invalid_token" {
			t.Errorf("%q, open is %q: without a good token the challenge is %v", c.user, c.open, asked)
		}
		token := own
		if resp.StatusCode == http.StatusUnauthorized {
			asked := challenge(t, resp)
			if asked["scope"] != "repository:up/org/image:pull" {
				t.Errorf("%q, open is %q: the challenge is for %q", c.user, c.open, asked["scope"])
			}
			token = e.token(t, asked, asked["scope"], "repository:org/image:pull")
		}
		if got, _ := e.pulled(t, "org/image", query, token); got != c.want {
			t.Errorf("%q, open is %q: %d, want %d", c.user, c.open, got, c.want)
		}
		r.end(t)
	}
}
