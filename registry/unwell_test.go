package registry_test

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/config"
)

// An unwell is an upstream that misbehaves, and what a client sees of that.
type unwell struct {
	url     string           // "": of a server with handler
	tls     bool             // whose certificate is of an unknown CA
	handler http.HandlerFunc // of all requests but the ping; nil: it breaks connections off
	status  int
	code    string
	reason  string
	text    string // in the message
	after   string // Retry-After; "" for a silent one: that of the second answer is not empty
	silent  bool
}

func answers(status int, mediaType, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func unwells() map[string]unwell {
	const html, text = "text/html", "application/json"
	refused := `{"errors":[{"code":"SOME_CODE","message":"some words"}]}`
	return map[string]unwell{
		"down":             {url: "http://127.0.0.1:1", status: 502, code: "UNAVAILABLE", reason: "unreachable", text: "connection refused", silent: true},
		"unresolvable":     {url: "https://registry.invalid", status: 502, code: "UNAVAILABLE", reason: "unresolvable", text: "registry.invalid", silent: true},
		"an unknown CA":    {tls: true, handler: answers(200, text, "{}"), status: 502, code: "UNAVAILABLE", reason: "tls", text: "certificate", silent: true},
		"breaks off":       {status: 502, code: "UNAVAILABLE", reason: "broken", text: "closed before an answer", silent: true},
		"401":              {handler: answers(401, text, refused), status: 403, code: "DENIED", reason: "login", text: "some words"},
		"403":              {handler: answers(403, text, refused), status: 403, code: "DENIED", reason: "denied", text: "some words"},
		"429":              {handler: answers(429, text, refused, "Retry-After", "60"), status: 429, code: "TOOMANYREQUESTS", reason: "limit", text: "some words", after: "60"},
		"429 without time": {handler: answers(429, text, refused), status: 429, code: "TOOMANYREQUESTS", reason: "limit", text: "some words"},
		"500":              {handler: answers(500, text, refused), status: 502, code: "UNAVAILABLE", reason: "failing", text: "500 Internal Server Error"},
		"503 for a minute": {handler: answers(503, text, refused, "Retry-After", "60"), status: 502, code: "UNAVAILABLE", reason: "failing", text: "503", after: "60"},
		"a page":           {handler: answers(200, html, "<html>log in</html>"), status: 502, code: "UNAVAILABLE", reason: "nonsense", text: "web page"},
		"other JSON":       {handler: answers(200, text, `{"hello":"world"}`), status: 502, code: "UNAVAILABLE", reason: "nonsense", text: "get manifest"},
		"no JSON":          {handler: answers(200, ocispec.MediaTypeImageManifest, "hello"), status: 502, code: "UNAVAILABLE", reason: "nonsense", text: "manifest"},
	}
}

// serve returns the URL of the upstream.
func (u unwell) serve(t *testing.T) string {
	if u.url != "" {
		return u.url
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case u.handler == nil:
			panic(http.ErrAbortHandler)
		case r.URL.Path != "/v2/":
			u.handler(w, r)
		}
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if u.tls {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server.URL
}

// An answered is what a client got, in time.
type answered struct {
	status int
	header http.Header
	body   string
	error  struct {
		Code, Message string
		Detail        struct{ Reason, Hint string }
	}
}

func (r *running) pulls(t *testing.T, path string) (a answered) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+path, nil)
	must(t, err)
	req.SetBasicAuth("pull", password)
	began := time.Now()
	resp, err := r.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("%s took %s", path, took)
	}
	a.status, a.header, a.body = resp.StatusCode, resp.Header, string(body)
	var errs struct{ Errors []json.RawMessage }
	if json.Unmarshal(body, &errs) == nil && len(errs.Errors) == 1 {
		must(t, json.Unmarshal(errs.Errors[0], &a.error))
	}
	return a
}

// TestPull_upstreamThatIsUnwell has the upstream fail in every way: what is held is served at once and
// marked, and what is not fails quickly, with a status that leads a client to no wrong conclusion and
// with the reason.
//
// Spec: signatures 3.
func TestPull_upstreamThatIsUnwell(t *testing.T) {
	index := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
	d := digest.FromBytes(index)
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case "/v2/image/manifests/v1":
			answers(200, ocispec.MediaTypeImageIndex, string(index), "Docker-Content-Digest", d.String())(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(well.Close)
	for name, u := range unwells() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(c *config.Config) {
				c.Upstreams = []config.Upstream{{Prefix: "up", URL: well.URL, Freshness: 1}}
			})
			if a := r.pulls(t, "/v2/up/image/manifests/v1"); a.status != 200 || a.header.Get("Warning") != "" {
				t.Fatalf("while it is well: %d %v %s", a.status, a.header, a.body)
			}
			r.cfg.Upstreams = slices.Clone(r.cfg.Upstreams)
			r.cfg.Upstreams[0].URL = u.serve(t)
			r = r.restart(t)
			for range 2 {
				if a := r.pulls(t, "/v2/up/image/manifests/v1"); a.status != 200 || a.body != string(index) || !strings.HasPrefix(a.header.Get("Warning"), "111 - ") {
					t.Errorf("what is held: %d %v %s", a.status, a.header, a.body)
				}
			}
			signature := "/v2/up/image/manifests/" + strings.Replace(d.String(), ":", "-", 1) + ".sig"
			if a := r.pulls(t, signature); a.status != 404 || a.error.Code != "MANIFEST_UNKNOWN" {
				t.Errorf("a signature of what is held: %d %s", a.status, a.body)
			}
			for _, path := range []string{"manifests/v2", "manifests/" + digest.FromString("x").String(), "manifests/v3"} {
				a := r.pulls(t, "/v2/up/other/"+path)
				if a.status != u.status || a.error.Code != u.code || a.error.Detail.Reason != u.reason || !strings.Contains(a.error.Message, u.text) {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
				if after := a.header.Get("Retry-After"); !u.silent && after != u.after || u.silent && path == "manifests/v3" && after == "" {
					t.Errorf("%s: Retry-After %q", path, after)
				}
			}
			u.wantMetrics(t, r)
		})
	}
}

func (u unwell) wantMetrics(t *testing.T, r *running) {
	t.Helper()
	_, metrics := r.get(t, "/metrics")
	down := "} 0"
	if u.silent {
		down = "} 1"
	}
	found := func(name, rest string) bool {
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "appliance_upstream_"+name+"{") && strings.Contains(line, rest) {
				return true
			}
		}
		return false
	}
	if !found("down", down) || !found("requests_total", `result="`+u.reason+`"`) || !found("stale_answers_total", "} 2") || !found("downloads", "} 0") {
		t.Errorf("metrics:\n%s", metrics)
	}
}
