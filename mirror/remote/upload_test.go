package remote_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Requests of an upload that have no body are sent again by themselves: the source is read once.
func TestPutBlob_resendsWhatHasNoBody(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter){
		"500":        func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"connection": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodPut} {
			t.Run(name+" "+method, func(t *testing.T) {
				s := plainRegistry(t)
				failed := 0
				s.fails(func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method != method || failed == 2 {
						return false
					}
					failed++
					fail(w)
					return true
				})
				data, desc := blob("x")
				if err := open(t, s).PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil || failed != 2 {
					t.Errorf("%v after %d failures", err, failed)
				}
			})
		}
	}
	t.Run("not for ever", func(t *testing.T) {
		s := plainRegistry(t)
		s.fails(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusBadGateway)
			}
			return r.Method == http.MethodPost
		})
		data, desc := blob("x")
		err := open(t, s).PutBlob(t.Context(), "a", desc, bytes.NewReader(data))
		if n := s.count(http.MethodPost, ""); n != 3 || err == nil || refused(err) || !strings.Contains(hint.Of(err), "its log") {
			t.Errorf("%d requests, %v\nhint: %s", n, err, hint.Of(err))
		}
	})
}

// A registry says where an upload goes on: relative to the request, and with a query of its own.
func TestPutBlob_goesWhereTheRegistrySays(t *testing.T) {
	for name, location := range map[string]func(host, id string) string{
		"a path": func(_, id string) string { return "/v2/a/blobs/uploads/" + id + "?_state=a%2Fb%3D%3D&part=1" },
		"a name": func(_, id string) string { return id + "?_state=a%2Fb%3D%3D&part=1" },
		"another place": func(host, id string) string {
			return "http://" + host + "/elsewhere/" + id + "?_state=a%2Fb%3D%3D&part=1"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := plainRegistry(t)
			handler := s.handler
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				under := strings.Contains(r.URL.Path, "/uploads/") || strings.HasPrefix(r.URL.Path, "/elsewhere/")
				if !under {
					return false
				}
				if r.Method != http.MethodPost && r.URL.Query().Get("_state") != "a/b==" {
					w.WriteHeader(http.StatusBadRequest)
					return true
				}
				inner := r.Clone(r.Context())
				inner.URL.Path = strings.Replace(r.URL.Path, "/elsewhere/", "/v2/a/blobs/uploads/", 1)
				inner.URL.RawQuery = url.Values{"digest": r.URL.Query()["digest"]}.Encode()
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, inner)
				if id := answer.Header().Get("Location"); id != "" {
					w.Header().Set("Location", location(s.host, id[strings.LastIndex(id, "/")+1:]))
				}
				w.WriteHeader(answer.Code)
				return true
			})
			data, desc := blob("x")
			r := open(t, s)
			if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if exists, err := hasBlob(t.Context(), open(t, s), "a", desc.Digest); !exists || err != nil {
				t.Errorf("exists %v, %v", exists, err)
			}
		})
	}
}

func TestPutBlob_saysWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		answer string
		final  bool
		hint   string
	}{
		"quota of Harbor":           {403, `{"errors":[{"code":"DENIED","message":"adding 1.0 MiB of storage resource, which when updated to current usage of 10.0 MiB will exceed the configured upper limit of 10.0 MiB."}]}`, true, "quota"},
		"quota of Quay":             {403, `{"errors":[{"code":"DENIED","message":"Quota has been exceeded on namespace"}]}`, true, "quota"},
		"disk full":                 {507, ``, true, "free some"},
		"limit of nginx":            {413, `<html>413 Request Entity Too Large</html>`, true, "largest body"},
		"no right":                  {403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, true, "podman login"},
		"no repository (ECR)":       {404, `{"errors":[{"code":"NAME_UNKNOWN","message":"The repository with name 'a' does not exist in the registry with id '1'"}]}`, true, "create the repository"},
		"an upload that is unknown": {404, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}`, false, "forgets uploads"},
	} {
		t.Run(name, func(t *testing.T) {
			s := plainRegistry(t)
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPost {
					return false
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.answer)
				return true
			})
			data, desc := blob("x")
			err := open(t, s).PutBlob(t.Context(), "a", desc, bytes.NewReader(data))
			if refused(err) != test.final || !strings.Contains(hint.Of(err), test.hint) {
				t.Errorf("refused %v: %v\nhint: %s", refused(err), err, hint.Of(err))
			}
			if n := s.count(http.MethodPost, ""); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}
