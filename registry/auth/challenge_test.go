package auth

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// The exact challenges, which clients parse.
func TestChallenges(t *testing.T) {
	const (
		basic  = `Basic realm="appliance", charset="UTF-8"`
		token  = `Bearer realm="https://registry.example:8443/v2/auth",service="registry.example:8443"`
		docker = "docker/27.5.1 go/go1.22.11 git-commit/4c9b3b0 kernel/6.8 os/linux arch/amd64 UpstreamClient(Docker-Client/27.5.1 \\(linux\\))"
	)
	for name, c := range map[string]struct {
		open   []string
		action Action
		header http.Header
		want   []string
	}{
		"nothing is open":              {nil, Login, http.Header{"User-Agent": {docker}}, []string{basic}},
		"docker":                       {[]string{"*"}, Login, http.Header{"User-Agent": {docker}}, []string{token}},
		"oc":                           {[]string{"*"}, Login, http.Header{"User-Agent": {"oc/4.21.0 (linux/amd64) kubernetes/abc"}}, []string{token}},
		"an image import":              {[]string{"*"}, Login, http.Header{"User-Agent": {"Go-http-client/2.0"}}, []string{token}},
		"podman":                       {[]string{"*"}, Login, http.Header{"User-Agent": {"containers/5.34 (github.com/containers/image)"}, "Docker-Distribution-Api-Version": {"registry/2.0"}}, []string{basic, token}},
		"crane":                        {[]string{"*"}, Login, http.Header{"User-Agent": {"crane/0.20.3 go-containerregistry/0.20.3"}}, []string{basic, token}},
		"curl":                         {[]string{"*"}, Login, http.Header{"User-Agent": {"curl/8.5.0"}}, []string{basic, token}},
		"a script":                     {[]string{"*"}, Login, nil, []string{basic, token}},
		"a wrong password":             {[]string{"*"}, Login, http.Header{"Authorization": {"Basic aW5pdDp3cm9uZw=="}, "User-Agent": {docker}}, []string{basic}},
		"containerd at closed content": {[]string{"open"}, Write, http.Header{"User-Agent": {"containerd/2.1.4"}}, []string{basic}},
		"an invalid token":             {nil, Read, http.Header{"Authorization": {"Bearer x"}}, []string{token + `,scope="repository:a:pull",error="invalid_token"`}},
		"an unknown scheme":            {nil, Read, http.Header{"Authorization": {"Negotiate x"}}, []string{basic}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t)
			d.auth.Anonymous = c.open
			scope := func(*http.Request) string {
				if c.action == Login {
					return ""
				}
				return "repository:a:pull"
			}
			h := d.auth.RequireToken(func(*http.Request) Action { return c.action }, scope,
				http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let through") }),
				func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
			r := httptest.NewRequest("GET", "https://registry.example:8443/v2/", nil)
			for k, v := range c.header {
				r.Header[k] = v
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Header().Values("WWW-Authenticate"); w.Code != 401 || !slices.Equal(got, c.want) {
				t.Errorf("%d\n%q, want\n%q", w.Code, got, c.want)
			}
		})
	}
	t.Run("a malformed host name", func(t *testing.T) {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Host = `a",realm="https://evil.example`
		r.Header.Set("Authorization", "Bearer x")
		if got := ChallengeFor(r, RepositoryScope("a", ScopePull)); got != challenge {
			t.Error(got)
		}
	})
}
