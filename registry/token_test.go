package registry_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/config"
)

// What docker does without a login: /v2/ gives it the place where tokens are issued, and one pulls
// what is open, also after a restart. No token is in a log.
func TestRun_tokens(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AnonymousPull = []string{"open/*"} })
	img, err := random.Image(100, 1)
	must(t, err)
	must(t, remote.Write(tag(t, "open/app:v1"), img, r.remote(t, "push", password)...))
	ask := func(path, header string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+path, nil)
		must(t, err)
		req.Header.Set("User-Agent", "docker/27.5.1")
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		resp, err := r.http.Do(req)
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp, string(body)
	}
	ping, _ := ask("/v2/", "")
	if got, want := ping.Header.Values("WWW-Authenticate"), `Bearer realm="https://`+host+`/v2/auth",service="`+host+`"`; len(got) != 1 || got[0] != want {
		t.Errorf("the challenge is %q, want %q", got, want)
	}
	resp, body := ask(auth.TokenPath+"?service="+host+"&scope=repository:open/app:pull", "")
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Status, body)
	}
	for _, moment := range []string{"at first", "after a restart"} {
		for path, want := range map[string]int{"/v2/open/app/manifests/v1": 200, "/v2/shut/manifests/v1": 401, "/api/v1/status": 401} {
			if resp, body := ask(path, "Bearer "+answer.Token); resp.StatusCode != want {
				t.Errorf("%s: %s is answered %s %s", moment, path, resp.Status, body)
			}
		}
		if strings.Contains(r.log.String()+r.access.String(), answer.Token) {
			t.Error("the token is in a log")
		}
		r = r.restart(t)
	}
}
