// Package openapi describes the control API as an OpenAPI 3.1 document.
//
// The document is made from the calls that package admin answers, each with the types that package api
// declares for it: schemas by reflection, descriptions from the comments of the source, which
// comments.json has. After a change of a comment or a call run `make openapi`.
//
// A document that is written by hand was refused, since it lags behind, and so were annotations in
// comments, which state a second time what the declarations have.
package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Call is a call or a job that is answered.
type Call struct {
	Method, Path string
	Roles        []string // that may call
	Status       int
	// Request and Answer are api.None for none. Of a job, Answer is the result.
	Request, Answer reflect.Type
	Progress        reflect.Type // of a job
	Query           []api.Parameter
}

// CallOf describes a call with some parameters in its query.
func CallOf[Q, A any](c api.Call[Q, A], query ...api.Parameter) Call {
	return Call{Method: c.Method, Path: c.Path, Status: c.Status, Request: reflect.TypeFor[Q](), Answer: reflect.TypeFor[A](), Query: query}
}

// JobOf describes a job.
func JobOf[Q, P, R any](j api.Job[Q, P, R]) Call {
	return Call{Method: http.MethodPost, Path: j.Path, Status: http.StatusOK, Request: reflect.TypeFor[Q](),
		Answer: reflect.TypeFor[R](), Progress: reflect.TypeFor[P]()}
}

type (
	object    = map[string]any
	operation struct {
		OperationID string              `json:"operationId"`
		Summary     string              `json:"summary"`
		Description string              `json:"description,omitempty"`
		Tags        []string            `json:"tags"`
		Security    []object            `json:"security"`
		Parameters  []object            `json:"parameters,omitempty"`
		Body        *body               `json:"requestBody,omitempty"`
		Responses   map[string]response `json:"responses"`
	}
	body struct {
		Description string           `json:"description,omitempty"`
		Required    bool             `json:"required"`
		Content     map[string]media `json:"content"`
	}
	media struct {
		Schema *jsonschema.Schema `json:"schema,omitempty"`
	}
	response struct {
		Ref         string           `json:"$ref,omitempty"`
		Description string           `json:"description,omitempty"`
		Content     map[string]media `json:"content,omitempty"`
	}
)

//go:embed comments.json
var commentsJSON []byte

// comments are those of the source.
type comments struct {
	Calls map[string]namedText  `json:"calls"` // by method and path
	Types map[string]typeLegend `json:"types"` // by package and type
}

type namedText struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

type typeLegend struct {
	Text   string            `json:"text,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

const about = "What administrators and commands ask of the registry, and have it do. Requests and answers are JSON; " +
	"a request that is refused is answered with the reason and what to do next."

// Document returns the document of some calls, as JSON.
func Document(calls []Call) (json.RawMessage, error) {
	var texts comments
	if err := json.Unmarshal(commentsJSON, &texts); err != nil {
		return nil, err
	}
	types, err := newSchemas(texts.Types, calls)
	if err != nil {
		return nil, err
	}
	paths, tags := map[string]map[string]operation{}, map[string]bool{}
	for _, c := range calls {
		op := describe(types, c, texts.Calls[c.Method+" "+c.Path])
		if paths[c.Path] == nil {
			paths[c.Path] = map[string]operation{}
		}
		paths[c.Path][strings.ToLower(c.Method)] = op
		tags[op.Tags[0]] = true
	}
	document, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info":    object{"title": "Control API of the appliance", "version": "v1", "description": about},
		"servers": []object{{"url": "/"}},
		"tags":    named(tags),
		"paths":   paths,
		"components": object{
			"schemas": types.components,
			"responses": object{"Refusal": response{Description: "The request is refused.",
				Content: map[string]media{"application/json": {types.of(reflect.TypeFor[api.Refusal]())}}}},
			"securitySchemes": object{"basic": object{"type": "http", "scheme": "basic", "description": "A user of the registry. On the control socket of its host no login is needed."}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("describe the control API: %w", err)
	}
	return document, nil
}

func named(all map[string]bool) (list []object) {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list = append(list, object{"name": name})
	}
	return list
}

var argument = regexp.MustCompile(`\{(\w+)\}`)

func describe(types *schemas, c Call, text namedText) operation {
	if text.Name == "" { // until `make openapi`
		text.Name = strings.ToLower(c.Method) + strings.NewReplacer("/", " ", "{", "", "}", "", "-", " ").Replace(strings.TrimPrefix(c.Path, "/api/v1"))
	}
	op := operation{OperationID: identifier(text.Name), Summary: words(text.Name), Description: text.Text, Tags: []string{tagOf(c.Path)},
		Security: []object{{"basic": c.Roles}}, Responses: map[string]response{}}
	for _, name := range argument.FindAllStringSubmatch(c.Path, -1) {
		op.Parameters = append(op.Parameters, object{"name": name[1], "in": "path", "required": true, "schema": &jsonschema.Schema{Type: "string"}})
	}
	for _, p := range c.Query {
		op.Parameters = append(op.Parameters, object{"name": p.Name, "in": "query", "description": p.Text, "required": p.Required,
			"schema": &jsonschema.Schema{Type: p.Type}})
	}
	if c.Request != reflect.TypeFor[api.None]() {
		op.Body = &body{Required: true, Content: map[string]media{"application/json": {types.of(c.Request)}}}
	}
	if raw, ok := rawBodies()[c.Method+" "+c.Path]; ok {
		op.Parameters = append(op.Parameters, raw.parameters...)
		op.Body = &body{Description: raw.text, Required: true, Content: map[string]media{raw.mediaType: {raw.schema}}}
	}
	answers(&op, types, c)
	return op
}

// answers describes what a call is answered.
func answers(op *operation, types *schemas, c Call) {
	done := response{Description: http.StatusText(c.Status)}
	switch {
	case c.Progress != nil:
		done.Description = "A JSON value in each line: the progress whenever there is some, and at the end the result or the reason that there is none. " +
			"The work ends when the caller hangs up."
		done.Content = map[string]media{"application/x-ndjson": {types.line(c)}}
		if detached(c.Request) {
			op.Responses[strconv.Itoa(http.StatusAccepted)] = response{Description: "It has begun, and goes on without the caller."}
		}
	case c.Answer != reflect.TypeFor[api.None]():
		done.Content = map[string]media{"application/json": {types.of(c.Answer)}}
	}
	op.Responses[strconv.Itoa(c.Status)] = done
	refused := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}
	if op.Body != nil || len(op.Parameters) > 0 {
		refused = append(refused, http.StatusBadRequest)
	}
	if strings.Contains(c.Path, "{") {
		refused = append(refused, http.StatusNotFound)
	}
	if c.Method != http.MethodGet {
		refused = append(refused, http.StatusConflict)
	}
	for _, status := range refused {
		op.Responses[strconv.Itoa(status)] = response{Ref: "#/components/responses/Refusal"}
	}
	op.Responses["default"] = response{Ref: "#/components/responses/Refusal"}
}

func detached(request reflect.Type) bool {
	return request.Implements(reflect.TypeFor[interface{ Detached() bool }]())
}

// rawBody is what a call reads besides the JSON that its declaration has.
type rawBody struct {
	mediaType, text string
	schema          *jsonschema.Schema
	parameters      []object
}

// rawBodies returns those calls, by method and path.
func rawBodies() map[string]rawBody {
	binary := &jsonschema.Schema{Type: "string", Format: "binary"}
	return map[string]rawBody{
		key(api.PutBlob): {"application/octet-stream", "The bytes of the blob, with Content-Length.", binary, []object{
			{"name": api.UploadOffset, "in": "header", "description": "How many bytes of the blob the registry has: the body is the rest.", "schema": object{"type": "integer", "minimum": 0}}}},
		key(api.PutManifest): {"*/*", "The bytes of the manifest, with its media type.", binary, nil},
		key(api.PushCluster): {"application/json", "What oc get -o json prints of the cluster.", &jsonschema.Schema{Type: "object"}, nil},
	}
}

func key[Q, A any](c api.Call[Q, A]) string { return c.Method + " " + c.Path }

// tagOf returns the first word of a path after the version.
func tagOf(path string) string {
	rest, _ := strings.CutPrefix(path, "/api/v1/")
	tag, _, _ := strings.Cut(strings.Trim(rest, "/"), "/")
	return tag
}

// identifier returns a name of Go, or words, in camel case.
func identifier(name string) string {
	fields := strings.Fields(name)
	for i, f := range fields[1:] {
		fields[i+1] = strings.ToUpper(f[:1]) + f[1:]
	}
	name = strings.Join(fields, "")
	if strings.ToUpper(name) == name {
		return strings.ToLower(name)
	}
	return strings.ToLower(name[:1]) + name[1:]
}

// words returns a name of Go in words.
func words(name string) string {
	var out []rune
	all := []rune(name)
	for i, r := range all {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(all[i-1]) || i+1 < len(all) && unicode.IsLower(all[i+1])) {
			out = append(out, ' ')
			if i+1 < len(all) && unicode.IsLower(all[i+1]) {
				r = unicode.ToLower(r)
			}
		}
		out = append(out, r)
	}
	return string(out)
}
