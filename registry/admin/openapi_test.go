package admin_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// described is what these tests read of the document.
type described struct {
	Paths map[string]map[string]struct {
		OperationID string                `json:"operationId"`
		Summary     string                `json:"summary"`
		Security    []map[string][]string `json:"security"`
		Parameters  []struct {
			Name, In string
			Required bool
			Schema   struct{ Type string }
		} `json:"parameters"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

func TestHandler_openAPI(t *testing.T) {
	f := serve(t)
	var d described
	if err := json.Unmarshal(f.document(t), &d); err != nil {
		t.Fatal(err)
	}
	var declared struct {
		Calls map[string]struct{ Name string }
	}
	text, err := os.ReadFile("openapi/comments.json") // of the source, as TestComments shows
	if err == nil {
		err = json.Unmarshal(text, &declared)
	}
	if err != nil || len(declared.Calls) < 50 {
		t.Fatalf("%d calls are declared, %v", len(declared.Calls), err)
	}
	ids := map[string]string{}
	for path, operations := range d.Paths {
		for method, op := range operations {
			call := strings.ToUpper(method) + " " + path
			if _, is := declared.Calls[call]; !is {
				t.Errorf("%s is described, and package api does not declare it", call)
			}
			delete(declared.Calls, call)
			if other := ids[op.OperationID]; other != "" || op.Summary == "" {
				t.Errorf("%s and %s are both %q", call, other, op.OperationID)
			}
			ids[op.OperationID] = call
		}
	}
	everybody := []string{"pull", "push", "admin"}
	for call, want := range map[[2]string][]string{
		{"put", "/api/v1/clusters/{id}"}: everybody, {"get", "/api/v1/openapi.json"}: everybody,
		{"post", "/api/v1/image"}: everybody, {"post", "/api/v1/image/delete"}: {"push", "admin"},
		{"get", "/mirror/cluster-resources/"}: everybody, {"get", "/api/v1/status"}: {"admin"},
	} {
		if s := d.Paths[call[1]][call[0]].Security; len(s) != 1 || !slices.Equal(s[0]["basic"], want) {
			t.Errorf("%s is for %v, want %v", call, s, want)
		}
	}
	for call := range declared.Calls {
		t.Errorf("%s is declared, and not answered", call)
	}
}

// What is not registered by route would be missing in the document.
func TestHandler_routes(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			n += strings.Count(string(text), "mux.Handle(") + strings.Count(string(text), "mux.HandleFunc(")
		}
	}
	if n != 2 {
		t.Errorf("a path is registered at %d places; there are route, and NewHandler for what is unknown", n)
	}
}

// A handler gets no parameter that the document lacks.
func TestHandler_query(t *testing.T) {
	f := serve(t)
	var d described
	if err := json.Unmarshal(f.document(t), &d); err != nil {
		t.Fatal(err)
	}
	refused := func(method, path, reason string) {
		t.Helper()
		if code, body := f.send(t, method, path, ""); code != http.StatusBadRequest || !strings.Contains(body, reason) {
			t.Errorf("%s %s is answered %d %s, not 400 with %s", method, path, code, body, reason)
		}
	}
	var found []string
	for path, operations := range d.Paths {
		if path == api.GetResources.Path || path == api.ExchangeRoles.Path {
			continue // packages documents and role answer them
		}
		for method, op := range operations {
			method, good := strings.ToUpper(method), "?"
			for _, p := range op.Parameters {
				if p.In != "query" {
					continue
				}
				found = append(found, method+" "+path+" "+p.Name+" "+p.Schema.Type)
				if p.Required { // those before it are given
					refused(method, path+good, "the parameter "+p.Name+" is missing")
				}
				good += p.Name + "=" + map[string]string{"boolean": "true", "integer": "1", "string": "x"}[p.Schema.Type] + "&"
			}
			refused(method, path+good+"other=1", `no parameter \"other\"`)
			refused(method, path+good+"%zz", "malformed")
		}
	}
	slices.Sort(found)
	if want := []string{"DELETE /api/v1/backup/{snapshot} failed boolean", "GET /api/v1/changes follower string", "GET /api/v1/changes limit integer",
		"GET /api/v1/changes since string", "GET /api/v1/changes wait integer", "PUT /api/v1/sync/{id}/blobs/{digest} repository string",
		"PUT /api/v1/sync/{id}/manifests/{digest} repository string"}; !slices.Equal(found, want) {
		t.Errorf("parameters are %q, want %q", found, want)
	}
	refused(http.MethodDelete, "/api/v1/backup/x?failed=perhaps", "write true or false")
	refused(http.MethodGet, "/api/v1/changes?follower=x&since=x&limit=many", "write a number")
	refused(http.MethodGet, "/api/v1/changes?follower=x&since=x&wait=-1", "write a number")
}

func TestHandler_openAPISchemas(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(serve(t).document(t))))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:api", document); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		schema, value string
		valid         bool
	}{
		{"NewUser", `{"name":"a","role":"pull","password":"x"}`, true},
		{"NewUser", `{"name":"a","role":"pull","password":"x","repositories":["a/*"]}`, true},
		{"NewUser", `{"name":"a","role":"pull"}`, false},
		{"NewUser", `{"name":"a","role":"pull","password":"x","unknown":1}`, false},
		{"NewUser", `{"name":"a","role":"pull","password":"x","repositories":null}`, false},
		{"User", `{"name":"a","role":"pull","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z","later":1}`, true},
		{"GCRequest", `{"gracePeriod":"1h"}`, true},
		{"GCRequest", `{"gracePeriod":3600}`, false},
		{"GCResult", `{"began":"2026-01-01T00:00:00Z","ended":"2026-01-01T00:00:00Z"}`, false}, // lacks those of gc.Result
		{"PinOutcome", `{"image":"a:b","error":"it is not there"}`, true},
		{"PinOutcome", `{"image":"a:b","repository":1}`, false},
		{"Verdict", `{}`, false},
		{"CatalogContent", `{"content":[1,{"a":null}]}`, true},
		{"ReadyRequest", `{"to":"4.20","keys":"aGVsbG8="}`, true},
		{"ReadyRequest", `{"to":"4.20","cluster":null}`, false},
		{"PinResult", `{"images":null}`, true},
		{"Existing", `{"partial":{"sha256:0":1}}`, true},
		{"Existing", `{"partial":{"sha256:0":"1"}}`, false},
	} {
		schema, err := c.Compile("mem:api#/components/schemas/" + tc.schema)
		if err != nil {
			t.Fatalf("%s: %v", tc.schema, err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(tc.value))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != tc.valid {
			t.Errorf("%s %s: %v", tc.schema, tc.value, err)
		}
	}
}

// document gets the description of the control API.
func (f *fixture) document(t *testing.T) []byte {
	t.Helper()
	code, body := f.send(t, http.MethodGet, "/api/v1/openapi.json", "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	return []byte(body)
}
