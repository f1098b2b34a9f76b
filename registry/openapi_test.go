package registry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mirror-appliance/appliance/registry/config"
)

// contract compares requests and answers with the document that the daemon serves.
type contract struct {
	r        *running
	compiler *jsonschema.Compiler
	paths    map[string]any
	called   map[string]bool
}

func (r *running) contract(t *testing.T) *contract {
	t.Helper()
	for _, user := range []string{"pull", "push"} {
		if code, body := r.as(t, user, http.MethodGet, "/api/v1/openapi.json"); code != http.StatusOK {
			t.Fatalf("%s: %d %s", user, code, body)
		}
	}
	if code, _ := r.get(t, "/api/v1/openapi.json"); code != http.StatusUnauthorized {
		t.Errorf("without a login: %d", code)
	}
	_, body := r.as(t, "admin", http.MethodGet, "/api/v1/openapi.json")
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	must(t, err)
	c := &contract{r: r, compiler: jsonschema.NewCompiler(), paths: document.(map[string]any)["paths"].(map[string]any), called: map[string]bool{}}
	c.compiler.AssertFormat()
	must(t, c.compiler.AddResource("mem:api", document))
	return c
}

var argument = regexp.MustCompile(`\\\{\w+\\\}`)

// find returns the path of the document that a request is of.
func (c *contract) find(t *testing.T, path string) string {
	t.Helper()
	var found []string
	for template := range c.paths {
		if regexp.MustCompile("^" + argument.ReplaceAllString(regexp.QuoteMeta(template), "[^/]+") + "$").MatchString(path) {
			found = append(found, template)
		}
	}
	if i := slices.Index(found, path); i >= 0 { // a path without arguments goes before one with them
		return path
	}
	if len(found) != 1 {
		t.Fatalf("%s is of %v", path, found)
	}
	return found[0]
}

// valid fails unless a value is as the document has it at a place.
func (c *contract) valid(t *testing.T, what string, text []byte, place ...string) {
	t.Helper()
	at := "mem:api#"
	for _, p := range place {
		at += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(p)
	}
	schema, err := c.compiler.Compile(at)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: %.2000s\n%v", what, text, err)
	}
}

// call makes a call as a user, and compares it with the document.
func (c *contract) call(t *testing.T, user, method, path, body string, want int) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, strings.NewReader(body))
	must(t, err)
	req.SetBasicAuth(user, password)
	resp, err := c.r.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	what := user + " " + method + " " + path
	if want != 0 && resp.StatusCode != want {
		t.Errorf("%s: %d %s", what, resp.StatusCode, answer)
	}
	template := c.find(t, req.URL.Path)
	c.called[method+" "+template] = true
	op := []string{"paths", template, strings.ToLower(method)}
	if body != "" && want > 0 && want < 400 {
		c.valid(t, what+", its request", []byte(body), append(op, "requestBody", "content", "application/json", "schema")...)
	}
	c.answered(t, what, op, resp, answer)
	return answer
}

func (c *contract) operation(path, method string) map[string]any {
	return c.paths[path].(map[string]any)[strings.ToLower(method)].(map[string]any)
}

// answered compares an answer with the document.
func (c *contract) answered(t *testing.T, what string, op []string, resp *http.Response, answer []byte) {
	t.Helper()
	status := strconv.Itoa(resp.StatusCode)
	described := c.operation(op[1], op[2])["responses"].(map[string]any)[status]
	mediaType := resp.Header.Get("Content-Type")
	place := append(op, "responses", status, "content", mediaType, "schema")
	switch {
	case resp.StatusCode >= 400:
		c.valid(t, what, answer, "components", "schemas", "Refusal")
	case described == nil:
		t.Errorf("%s: the document has no status %s", what, status)
	case mediaType == "application/x-ndjson":
		for line := range bytes.Lines(answer) {
			c.valid(t, what, line, place...)
		}
	case len(answer) > 0:
		c.valid(t, what, answer, place...)
	case described.(map[string]any)["content"] != nil:
		t.Errorf("%s: an answer is described, and there is none", what)
	}
}

// rest makes the calls that were not made, as they are most simply made, and each as a user of role
// pull, who is refused what the document has for others.
func (c *contract) rest(t *testing.T) {
	t.Helper()
	for path, operations := range c.paths {
		for method := range operations.(map[string]any) {
			body := ""
			if c.operation(path, method)["requestBody"] != nil {
				body = "{}"
			}
			at, method := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "x"), strings.ToUpper(method)
			var roles []string
			for _, role := range c.operation(path, method)["security"].([]any)[0].(map[string]any)["basic"].([]any) {
				roles = append(roles, role.(string))
			}
			may := slices.Contains(roles, "pull")
			denial := "is for a user of role " + strings.Join(roles, " or ") + `"`
			if len(roles) == 0 { // it is for another appliance, whose login is a token
				denial = "this appliance knows no other one with that token"
			}
			_, refused := c.r.as(t, "pull", method, at)
			if denied := strings.Contains(refused, denial); denied == may {
				t.Errorf("%s %s: a user of role pull is answered %s, and may: %v", method, path, refused, may)
			}
			if !c.called[method+" "+path] {
				c.call(t, "admin", method, at, body, 0)
			}
		}
	}
}

func TestRun_openAPI(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "hub", URL: "https://127.0.0.1:1"}} })
	c := r.contract(t)
	img, err := random.Image(64, 2)
	must(t, err)
	must(t, remote.Write(tag(t, "a/b:v1"), img, r.remote(t, "push", password)...))
	r.as(t, "pull", http.MethodGet, "/v2/a/b/manifests/missing")
	d, err := img.Digest()
	must(t, err)

	admin := func(method, path, body string, want int) []byte {
		t.Helper()
		return c.call(t, "admin", method, path, body, want)
	}
	for _, path := range []string{"ping", "status", "offline", "certificate", "misses", "upstreams", "pins", "clusters", "users", "wants", "gc/plan", "damage", "openapi.json", "mirror", "misses/image-set", "ready"} {
		want := http.StatusOK
		if path == "ping" {
			want = http.StatusNoContent
		}
		admin(http.MethodGet, "/api/v1/"+path, "", want)
	}
	c.call(t, "pull", http.MethodGet, "/mirror/cluster-resources/", "", http.StatusOK)
	c.call(t, "pull", http.MethodGet, "/api/v1/status", "", http.StatusForbidden)
	for path, body := range map[string]string{
		"audit": `{"kind":"content","limit":1}`, "inventory": `{}`, "origins": `{}`, "history": `{"limit":3}`, "updates": `{}`,
		"needs": `{"workspace":"w","images":[{"repository":"a/b","reference":"v1"}]}`, "upstreams/test": `{"prefixes":["hub"]}`,
		"catalog-content": `{"repository":"a/b","reference":"v1"}`, "unpin": `{"images":["a/b:v1"]}`,
		"gc": `{"dryRun":true,"gracePeriod":"0s"}`, "verify": `{"content":true}`, "scrub": `{}`, "usage": `{"limit":1}`, "pin": `{"images":["a/b:v1","a/b:none"]}`,
		"ready": `{"to":"4.20.1"}`, "catalogs": `{}`,
	} {
		admin(http.MethodPost, "/api/v1/"+path, body, http.StatusOK)
	}
	admin(http.MethodPost, "/api/v1/gc", `{"detach":true}`, http.StatusAccepted)
	admin(http.MethodPost, "/api/v1/gc", `{"gracePeriod":3600}`, http.StatusBadRequest)
	admin(http.MethodGet, "/api/v1/ready/image-set", "", http.StatusNotFound)
	admin(http.MethodPost, "/api/v1/ready/stop", "", http.StatusNoContent)
	admin(http.MethodPost, "/api/v1/ready", `{"to":"4.20.1","detach":true}`, http.StatusAccepted)
	until(t, "the verdict", func() bool {
		return bytes.Contains(admin(http.MethodGet, "/api/v1/ready", "", http.StatusOK), []byte(`"last"`))
	})
	admin(http.MethodGet, "/api/v1/ready/image-set", "", http.StatusOK)
	for _, path := range []string{"mirror", "mirror/plan", "mirror/last-plan", "mirror/stop", "mirror/image-set", "mirror/report"} {
		admin(http.MethodPost, "/api/v1/"+path, `{"imageSet":"none"}`, http.StatusBadRequest)
	}
	admin(http.MethodPost, "/api/v1/backup", ``, http.StatusBadRequest)
	admin(http.MethodDelete, "/api/v1/backup/none", "", http.StatusNotFound)
	admin(http.MethodPut, "/api/v1/offline", `{"offline":false}`, http.StatusOK)
	admin(http.MethodPut, "/api/v1/wants", `{"key":"k","wants":null}`, http.StatusNoContent)
	admin(http.MethodPost, "/api/v1/certificate/renew", "", http.StatusOK)
	admin(http.MethodDelete, "/api/v1/certificate/shared", "", http.StatusConflict)
	admin(http.MethodDelete, "/api/v1/misses", "", http.StatusNoContent)
	admin(http.MethodPost, "/api/v1/reload", "", http.StatusInternalServerError) // this program has no file
	admin(http.MethodPut, "/api/v1/clusters", `{"facts":{}}`, http.StatusBadRequest)
	admin(http.MethodPut, "/api/v1/clusters/c-1", `{}`, http.StatusBadRequest)
	admin(http.MethodDelete, "/api/v1/clusters/c-1", "", http.StatusNotFound)

	admin(http.MethodPost, "/api/v1/users", `{"name":"new","role":"pull","password":"long-enough","repositories":["a/*"]}`, http.StatusCreated)
	admin(http.MethodPost, "/api/v1/users", `{"name":"new","role":"pull","password":"long-enough"}`, http.StatusConflict)
	admin(http.MethodPut, "/api/v1/users/new", `{"role":"push"}`, http.StatusOK)
	admin(http.MethodDelete, "/api/v1/users/new", "", http.StatusNoContent)
	c.sync(t, d.String())

	c.rest(t)
}

// sync makes the calls of a run.
func (c *contract) sync(t *testing.T, manifest string) {
	t.Helper()
	begin := func() string {
		var run struct{ ID string }
		must(t, json.Unmarshal(c.call(t, "admin", http.MethodPost, "/api/v1/sync", `{"name":"a test"}`, http.StatusCreated), &run))
		return "/api/v1/sync/" + run.ID
	}
	run, list := begin(), `{"a/b":["`+manifest+`"]}`
	c.call(t, "admin", http.MethodPost, run+"/held", `{"manifests":`+list+`,"blobs":`+list+`}`, http.StatusOK)
	c.call(t, "admin", http.MethodPost, run+"/confirm", `{"blobs":{"a/b":[{"digest":"`+manifest+`","size":1}]}}`, http.StatusOK)
	c.call(t, "admin", http.MethodPut, run+"/blobs/"+manifest, "", http.StatusBadRequest)
	c.call(t, "admin", http.MethodPost, run+"/blobs/"+manifest+"/file", `{"size":1,"written":0}`, http.StatusBadRequest)
	c.call(t, "admin", http.MethodPut, run+"/manifests/"+manifest, "", http.StatusBadRequest)
	c.call(t, "admin", http.MethodPost, run+"/tags", `{"tags":[{"repository":"a/b","tag":"v2","digest":"`+manifest+`"}]}`, http.StatusNoContent)
	c.call(t, "admin", http.MethodPost, run+"/sources", `{"sources":{"a/b":["quay.io/a/b"]}}`, http.StatusNoContent)
	c.call(t, "admin", http.MethodPost, run+"/origins", `{"origins":[{"repository":"a/b","tag":"v2","origin":"quay.io/a/b:v2","about":{}}]}`, http.StatusNoContent)
	c.call(t, "admin", http.MethodPost, run+"/commit", "", http.StatusNoContent)
	c.call(t, "admin", http.MethodPost, "/api/v1/history", `{}`, http.StatusOK)
	c.call(t, "admin", http.MethodPost, "/api/v1/origins", `{}`, http.StatusOK)
	c.call(t, "admin", http.MethodPost, run+"/changes", `{"limit":1}`, http.StatusOK)
	c.call(t, "admin", http.MethodPost, run+"/rollback", `{"dryRun":true}`, http.StatusOK)
	c.call(t, "admin", http.MethodDelete, begin(), "", http.StatusNoContent)
}
