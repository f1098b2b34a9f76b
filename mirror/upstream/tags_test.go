package upstream_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/upstream"
)

func TestRepository_Tags(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.URL.Path == "/v2/a/b/tags/list" && r.URL.Query().Get("last") == "":
			w.Header().Set("Link", `</v2/a/b/tags/list?last=v1>; rel="next"`)
			fmt.Fprint(w, `{"name":"a/b","tags":["v0","v1"]}`)
		case r.URL.Path == "/v2/a/b/tags/list":
			fmt.Fprint(w, `{"name":"a/b","tags":["v2"]}`)
		default:
			fmt.Fprint(w, `<html>`)
		}
	}))
	defer server.Close()
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true, Retries: 1}, nil
	})
	defer registries.Close()
	tags := func(name string) ([]string, error) {
		r, err := registries.Repository(strings.TrimPrefix(server.URL, "http://"), name)
		if err != nil {
			t.Fatal(err)
		}
		return r.Tags(t.Context())
	}
	if got, err := tags("a/b"); err != nil || !slices.Equal(got, []string{"v0", "v1", "v2"}) {
		t.Errorf("tags %q, %v", got, err)
	}
	if got, err := tags("a/c"); err == nil {
		t.Errorf("a web page reads as the tags %q", got)
	}
}
