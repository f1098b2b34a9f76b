package oci

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

type refusesChanges struct{}

func (refusesChanges) ReadOnly() {}

func (refusesChanges) Error() string {
	return "this appliance follows https://first:8443 and is read-only"
}

func (refusesChanges) Hint() string { return "appliance promote" }

// following permits changes until it is told to refuse them.
type following struct{ at string }

func (f *following) Check(context.Context) error {
	if f.at == "check" {
		return refusesChanges{}
	}
	return nil
}

func (f *following) Do(ctx context.Context, change func(context.Context) error) error {
	if f.at != "" {
		return refusesChanges{}
	}
	return change(ctx)
}

// Clients show the code and the message of a 403.
func TestAPI_readOnly(t *testing.T) {
	changes := &following{}
	f := &fixture{t: t, dir: t.TempDir(), options: Options{Changes: changes}}
	f.open(nil)
	t.Cleanup(f.close)
	blob := digest.FromString("x")
	do := func(t *testing.T, method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, f.server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text := new(strings.Builder)
		_ = resp.Write(text)
		return resp.StatusCode, text.String()
	}
	manifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + blob.String() + `","size":1},"layers":[]}`
	if code, text := do(t, http.MethodPost, "/v2/app/blobs/uploads/?digest="+blob.String(), "x"); code != http.StatusCreated {
		t.Fatalf("a blob is answered %d %s", code, text)
	}
	if code, text := do(t, http.MethodPut, "/v2/app/manifests/v1", manifest); code != http.StatusCreated {
		t.Fatalf("a manifest is answered %d %s", code, text)
	}
	for _, at := range []string{"check", "change"} {
		changes.at = at
		for _, tc := range []struct{ method, path, body string }{
			{http.MethodPost, "/v2/app/blobs/uploads/", ""},
			{http.MethodPost, "/v2/app/blobs/uploads/?mount=" + blob.String() + "&from=app", ""},
			{http.MethodPatch, "/v2/app/blobs/uploads/x", "y"},
			{http.MethodPut, "/v2/app/blobs/uploads/x?digest=" + blob.String(), ""},
			{http.MethodPut, "/v2/app/manifests/v2", manifest},
			{http.MethodDelete, "/v2/app/manifests/v1", ""},
			{http.MethodDelete, "/v2/app/manifests/" + digest.FromString(manifest).String(), ""},
			{http.MethodDelete, "/v2/app/blobs/" + blob.String(), ""},
		} {
			if at == "change" && strings.Contains(tc.path, "/uploads/") {
				continue // what it brings is no content before there is a manifest
			}
			t.Run(at+" "+tc.method+" "+tc.path, func(t *testing.T) {
				code, text := do(t, tc.method, tc.path, tc.body)
				const want = `{"errors":[{"code":"DENIED","message":"this appliance follows https://first:8443 and is read-only: appliance promote"}]}`
				if code != http.StatusForbidden || !strings.Contains(text, want) {
					t.Errorf("answered %d %s", code, text)
				}
			})
		}
	}
	for _, path := range []string{"/v2/", "/v2/app/manifests/v1", "/v2/app/blobs/" + blob.String(), "/v2/app/tags/list", "/v2/_catalog"} {
		if code, text := do(t, http.MethodGet, path, ""); code != http.StatusOK {
			t.Errorf("GET %s is answered %d %s", path, code, text)
		}
	}
	if err := repoCodes.explain(errors.New("other")); err.Error() != "other" {
		t.Errorf("another error becomes %v", err)
	}
}
