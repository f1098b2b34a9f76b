package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A desk issues and accepts tokens with a clock of the test.
type desk struct {
	*door
	log    *bytes.Buffer
	tokens http.Handler
	api    http.Handler
}

func newDesk(t *testing.T, open ...string) *desk {
	d := &desk{door: newDoor(t), log: new(bytes.Buffer)}
	d.users.set(t, "team", "push", "correct-horse")
	d.users.grant("team", "team/*")
	d.open(open...)
	return d
}

// open starts again with the same users and secret, as a restart does.
func (d *desk) open(open ...string) {
	d.auth = New(d.users)
	d.auth.hasher.cost = 4
	d.auth.Log = slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.auth.now = func() time.Time { return d.now }
	d.auth.Anonymous = open
	d.auth.SignWith([]byte("kept"))
	d.tokens = d.auth.Tokens(func(h http.Handler) http.Handler { return h })
	d.api = d.auth.RequireToken(
		func(r *http.Request) Action {
			return map[string]Action{"GET": Read, "PUT": Write, "HEAD": Login}[r.Method]
		},
		func(*http.Request) string { return "repository:a:pull" },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, _ := IdentityFrom(r.Context())
			scopes := []string{}
			for _, s := range id.scopes {
				scopes = append(scopes, s.String())
			}
			w.Header().Set("X-User", id.Name)
			w.Header().Set("X-Scopes", strings.Join(scopes, " "))
		}),
		func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
}

func (u *users) grant(name string, patterns ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.records[name]
	r.Repositories = patterns
	u.records[name] = r
}

type tokenAnswer struct {
	status           int
	header           http.Header
	Token            string
	AccessToken      string `json:"access_token"`
	ExpiresIn        int    `json:"expires_in"`
	IssuedAt         string `json:"issued_at"`
	RefreshToken     string `json:"refresh_token"`
	Scope, Error     string
	Errors           []struct{ Code, Message string }
	ErrorDescription string `json:"error_description"`
}

func (d *desk) ask(r *http.Request) tokenAnswer {
	d.t.Helper()
	w := httptest.NewRecorder()
	d.tokens.ServeHTTP(w, r)
	a := tokenAnswer{status: w.Code, header: w.Header()}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Header().Get("Cache-Control") != "no-store" {
		d.t.Errorf("%d %s: %v", w.Code, w.Body, err)
	}
	if a.status == http.StatusOK && (a.Token == "" || a.Token != a.AccessToken || a.ExpiresIn != 300 || a.IssuedAt != d.now.UTC().Format(time.RFC3339) || a.RefreshToken != "") ||
		a.status != http.StatusOK && (a.Token != "" || a.Error == "" || len(a.Errors) != 1 || a.Errors[0].Message == "") {
		d.t.Errorf("%+v", a)
	}
	return a
}

// get requests a token as docker does.
func (d *desk) get(user, password string, scopes ...string) tokenAnswer {
	d.t.Helper()
	r := httptest.NewRequest("GET", TokenPath+"?"+url.Values{"service": {"x"}, "account": {user}, "scope": scopes}.Encode(), nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return d.ask(r)
}

func (d *desk) post(form url.Values) tokenAnswer {
	d.t.Helper()
	r := httptest.NewRequest("POST", TokenPath, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return d.ask(r)
}

// use sends a request with a token.
func (d *desk) use(method, token string) (status int, user, scopes, challenge string) {
	r := httptest.NewRequest(method, "https://registry.example:8443/v2/a/tags/list", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	d.api.ServeHTTP(w, r)
	return w.Code, w.Header().Get("X-User"), w.Header().Get("X-Scopes"), strings.Join(w.Header().Values("WWW-Authenticate"), "; ")
}

func TestTokens_grantNoMoreThanTheUserMay(t *testing.T) {
	d := newDesk(t, "open/*")
	for _, c := range []struct {
		user  string
		asked []string
		want  string
	}{
		{"", []string{"repository:open/a:pull,push"}, "repository:open/a:pull"},
		{"", []string{"repository:closed:pull"}, ""},
		{"", []string{"registry:catalog:*"}, "registry:catalog:*"},
		{"", nil, ""},
		{"init", []string{"repository:x/y:pull,push,delete"}, "repository:x/y:pull,push,delete"},
		{"init", []string{"repository:x/y:*"}, "repository:x/y:pull,push,delete"},
		{"init", []string{"repository:x/y:pull"}, "repository:x/y:pull"},
		{"init", []string{"repository(plugin):x:pull"}, "repository:x:pull"},
		{"init", []string{"repository:a:pull repository:b:push"}, "repository:a:pull repository:b:push"},
		{"init", []string{"repository:a:pull", "repository:b:push"}, "repository:a:pull repository:b:push"},
		{"puller", []string{"repository:x/y:pull,push,delete"}, "repository:x/y:pull"},
		{"team", []string{"repository:team/a:push,pull", "repository:other:pull", "repository:open/x:pull,push"}, "repository:team/a:pull,push repository:open/x:pull"},
		{"init", []string{"", "x", "repository", "repository:a", "user:a:pull", "repository:A:pull", "repository::pull", "repository:a..b:*", "registry:other:*"}, ""},
	} {
		a := d.get(c.user, "correct-horse", c.asked...)
		if a.status != http.StatusOK || a.Scope != c.want {
			t.Errorf("%q asks for %q: %d %q, want %q", c.user, c.asked, a.status, a.Scope, c.want)
		}
		if status, user, scopes, _ := d.use("GET", a.Token); status != http.StatusOK || user != c.user || scopes != c.want {
			t.Errorf("%q, %q: the token is good for %d %q %q", c.user, c.asked, status, user, scopes)
		}
	}
}

// The form of OAuth 2, which containerd and regctl send.
func TestTokens_post(t *testing.T) {
	d := newDesk(t, "open/*")
	login := url.Values{"grant_type": {"password"}, "service": {"x"}, "client_id": {"c"}, "username": {"team"}, "password": {"correct-horse"}, "scope": {"repository:team/a:pull,push"}}
	with := func(name, value string) url.Values {
		form := url.Values{}
		for k, v := range login {
			form[k] = v
		}
		form.Set(name, value)
		return form
	}
	if a := d.post(login); a.status != http.StatusOK || a.Scope != "repository:team/a:pull,push" {
		t.Errorf("%+v", a)
	}
	for name, c := range map[string]struct {
		form   url.Values
		status int
		oauth  string
	}{
		"a wrong password":   {with("password", "wrong-horse"), 401, "invalid_grant"},
		"a refresh token":    {url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, 400, "invalid_grant"},
		"no grant":           {url.Values{"username": {"team"}, "password": {"correct-horse"}}, 400, "invalid_request"},
		"an unknown grant":   {with("grant_type", "authorization_code"), 400, "unsupported_grant_type"},
		"a form without end": {with("x", strings.Repeat("x", maxForm)), 400, "invalid_request"},
	} {
		if a := d.post(c.form); a.status != c.status || a.Error != c.oauth || (a.header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	r := httptest.NewRequest("POST", TokenPath+"?"+login.Encode(), nil)
	if a := d.ask(r); a.status != http.StatusBadRequest {
		t.Errorf("a password in the query, which logs show, is accepted: %+v", a)
	}
	if a := d.ask(httptest.NewRequest("PUT", TokenPath, nil)); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, POST" {
		t.Errorf("%+v", a)
	}
}

func TestTokens_withoutALogin(t *testing.T) {
	d := newDesk(t)
	if a := d.get("", "", "repository:a:pull"); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != challenge {
		t.Errorf("without an open repository: %+v", a)
	}
	d.open("*")
	a := d.get("", "", "repository:a:pull,push")
	for method, want := range map[string]int{"GET": 200, "HEAD": 200} {
		if status, _, _, _ := d.use(method, a.Token); status != want {
			t.Errorf("%s: %d", method, status)
		}
	}
	d.open()
	if status, _, _, _ := d.use("GET", a.Token); status != http.StatusUnauthorized {
		t.Errorf("after the last repository was closed: %d", status)
	}
}

// Failed logins at the token endpoint are slowed down and logged without the password.
func TestTokens_backOff(t *testing.T) {
	d := newDesk(t, "*")
	var last tokenAnswer
	for i := range freePerName + 1 {
		last = d.get("init", "wrong-horse-"+strings.Repeat("x", i))
	}
	if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" {
		t.Errorf("%+v", last)
	}
	if log := d.log.String(); !strings.Contains(log, "login failed") || strings.Contains(log, "horse") {
		t.Error(log)
	}
}

func TestToken_ends(t *testing.T) {
	const scope = "repository:a:pull,push"
	for name, c := range map[string]struct {
		end  func(d *desk)
		want int
	}{
		"not in its last second":     {func(d *desk) { d.now = d.now.Add(tokenLife + tokenLeeway) }, 200},
		"with its time":              {func(d *desk) { d.now = d.now.Add(tokenLife + tokenLeeway + time.Second) }, 401},
		"when the clock is set back": {func(d *desk) { d.now = d.now.Add(-time.Hour) }, 401},
		"not with a restart":         {func(d *desk) { d.open() }, 200},
		"with another secret":        {func(d *desk) { d.auth.SignWith([]byte("another")) }, 401},
		"with its user's password":   {func(d *desk) { d.users.set(d.t, "init", "admin", "another-horse"); d.auth.Forget("init") }, 401},
		"with its user": {func(d *desk) {
			d.users.mu.Lock()
			defer d.users.mu.Unlock()
			delete(d.users.records, "init")
			d.auth.Forget("init")
		}, 401},
		"with its user, also if that one comes back": {func(d *desk) { d.users.set(d.t, "init", "admin", "correct-horse"); d.auth.Forget("init") }, 401},
		"not with another user's password":           {func(d *desk) { d.users.set(d.t, "team", "admin", "another-horse"); d.auth.Forget("team") }, 200},
		"in part with its user's role": {func(d *desk) {
			d.users.mu.Lock()
			defer d.users.mu.Unlock()
			r := d.users.records["init"]
			r.Role = "pull"
			d.users.records["init"] = r
			d.auth.Forget("init")
		}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			token := d.get("init", "correct-horse", scope).Token
			if status, _, scopes, _ := d.use("PUT", token); status != http.StatusOK || scopes != scope { // cached now
				t.Fatalf("at first: %d %q", status, scopes)
			}
			c.end(d)
			status, _, _, challenge := d.use("PUT", token)
			if status != c.want {
				t.Errorf("got %d, want %d", status, c.want)
			}
			if want := `Bearer realm="https://registry.example:8443/v2/auth",service="registry.example:8443",scope="repository:a:pull",error="invalid_token"`; status == 401 && challenge != want {
				t.Errorf("the challenge is %s", challenge)
			}
		})
	}
}

// A token is limited to its scopes, also when it has none or more than fit were requested.
func TestToken_scopes(t *testing.T) {
	d := newDesk(t)
	body := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"init","stamp":%q,"iat":%d,"access":null}`,
		d.auth.stamp("init", d.users.records["init"]), d.now.Unix()))
	id, err := d.auth.redeem(t.Context(), body+"."+base64.RawURLEncoding.EncodeToString(derive(d.auth.tokenKey, body)))
	if err != nil || !id.HasToken() || id.MayPull("a") {
		t.Errorf("a token without scopes: %+v, %v", id, err)
	}
	var many []string
	for i := range maxScopes + 1 {
		many = append(many, fmt.Sprintf("repository:r%d:pull", i))
	}
	if a := d.get("init", "correct-horse", many...); a.Scope != strings.Join(many[:maxScopes], " ") {
		t.Errorf("for %d scopes it is for %q", len(many), a.Scope)
	}
}

func TestToken_forged(t *testing.T) {
	d := newDesk(t, "*")
	good := d.get("team", "correct-horse", "repository:team/a:pull").Token
	other := d.get("init", "correct-horse", "repository:team/a:push").Token
	body, signature, _ := strings.Cut(good, ".")
	otherBody, otherSignature, _ := strings.Cut(other, ".")
	for _, token := range []string{
		"", ".", "x", "x.y", body, body + ".", "." + signature, body + "." + otherSignature, otherBody + "." + signature, good + "x", good + ".x",
		body[1:] + "." + signature, body + "=." + signature, strings.Repeat("x", 60000),
	} {
		if status, user, _, _ := d.use("GET", token); status != http.StatusUnauthorized {
			t.Errorf("%.40q is taken for %q: %d", token, user, status)
		}
	}
	// Where only passwords are accepted, a token is refused.
	h := d.auth.Require(func(*http.Request) Action { return Login }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let through") }),
		func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Authorization", "Bearer "+good)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != challenge {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if strings.Contains(d.log.String(), good) || strings.Contains(d.log.String(), signature) {
		t.Errorf("a token is in the log: %s", d.log)
	}
}
