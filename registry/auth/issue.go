package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// TokenPath is the path that issues tokens: Quay's, which scripts use.
const TokenPath = "/v2/auth"

// maxForm bounds the body of a request for a token.
const maxForm = 64 << 10

// Tokens returns the handler of TokenPath. It serves the requests that distribution and Quay do:
// GET with service, scope and optional Basic login, and POST with an OAuth 2 form. Failed logins
// count in the backoff. Refresh tokens are not issued: revoking them would need storage. around
// wraps the handler that answers; its request has the Identity in its context.
func (a *Authenticator) Tokens(around func(http.Handler) http.Handler) http.Handler {
	type scopesKey struct{}
	answer := around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := IdentityFrom(r.Context())
		scopes, _ := r.Context().Value(scopesKey{}).([]string)
		a.answerToken(w, r, id, scopes)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		id, scopes, err := a.applicant(w, r)
		if err != nil {
			err.write(w)
			return
		}
		ctx := context.WithValue(r.Context(), identityKey{}, id)
		answer.ServeHTTP(w, r.WithContext(context.WithValue(ctx, scopesKey{}, scopes)))
	})
}

// applicant authenticates a request for a token and returns the requested scopes.
func (a *Authenticator) applicant(w http.ResponseWriter, r *http.Request) (Identity, []string, *tokenError) {
	switch r.Method {
	case http.MethodGet:
		name, password, _ := r.BasicAuth()
		id, err := a.tokenLogin(r, name, password)
		return id, r.URL.Query()["scope"], err
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return Identity{}, nil, &tokenError{status: http.StatusBadRequest,
				oauth: "invalid_request", text: "the form could not be read"}
		}
		form := r.PostForm
		switch grant := form.Get("grant_type"); grant {
		case "password":
			id, err := a.tokenLogin(r, form.Get("username"), form.Get("password"))
			return id, form["scope"], err
		case "refresh_token":
			return Identity{}, nil, &tokenError{status: http.StatusBadRequest,
				oauth: "invalid_grant", text: "this registry issues no refresh tokens: log in with user name and password"}
		case "":
			return Identity{}, nil, &tokenError{status: http.StatusBadRequest,
				oauth: "invalid_request", text: "grant_type is missing"}
		}
		return Identity{}, nil, &tokenError{status: http.StatusBadRequest,
			oauth: "unsupported_grant_type", text: "grant_type must be password"}
	}
	w.Header().Set("Allow", "GET, POST")
	return Identity{}, nil, &tokenError{status: http.StatusMethodNotAllowed,
		oauth: "invalid_request", text: "use GET or POST"}
}

// tokenLogin is login that admits anonymous requests if any repository is open to them.
func (a *Authenticator) tokenLogin(r *http.Request, name, password string) (Identity, *tokenError) {
	var id Identity
	var refused refusal
	if name == "" && password == "" {
		id, refused = a.anonymous(Read)
	} else {
		id, refused = a.login(r, name, password)
	}
	switch refused.status {
	case 0:
		return id, nil
	case http.StatusUnauthorized:
		return Identity{}, &tokenError{status: refused.status, oauth: "invalid_grant",
			text:   "log in with a user name and password of this registry",
			header: [2]string{"Www-Authenticate", challenge}}
	case http.StatusTooManyRequests:
		return Identity{}, &tokenError{status: refused.status, oauth: "slow_down",
			text:   "too many failed logins; try again later",
			header: [2]string{"Retry-After", strconv.Itoa(seconds(refused.wait))}}
	}
	return Identity{}, errTokenUnavailable()
}

func errTokenUnavailable() *tokenError {
	return &tokenError{status: http.StatusServiceUnavailable, oauth: "temporarily_unavailable",
		text: "login could not be checked; try again", header: [2]string{"Retry-After", retry.Later}}
}

func (a *Authenticator) answerToken(w http.ResponseWriter, r *http.Request, id Identity, scopes []string) {
	token, c, err := a.issue(r.Context(), id, parseScopes(scopes))
	if err != nil {
		if !errors.Is(err, errToken) {
			a.Log.ErrorContext(r.Context(), "a token could not be issued", "user",
				printable(id.Name), "remote", r.RemoteAddr, "err", err)
		}
		errTokenUnavailable().write(w)
		return
	}
	granted := make([]string, 0, len(c.Scopes))
	for _, s := range c.Scopes {
		granted = append(granted, s.String())
	}
	writeToken(w, http.StatusOK, map[string]any{
		"token":        token,
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   int(tokenLife / time.Second),
		"issued_at":    time.Unix(c.Issued, 0).UTC().Format(time.RFC3339),
		"scope":        strings.Join(granted, " "),
	})
}

// A tokenError is a refused request for a token.
type tokenError struct {
	status int
	oauth  string // the error code of OAuth 2
	text   string
	header [2]string // name and value of an extra header
}

// write answers in both forms that clients read, OAuth 2's and the registry API's.
func (e *tokenError) write(w http.ResponseWriter) {
	if e.header[0] != "" {
		w.Header().Set(e.header[0], e.header[1])
	}
	code := map[int]string{http.StatusUnauthorized: "UNAUTHORIZED",
		http.StatusTooManyRequests: "TOOMANYREQUESTS", http.StatusServiceUnavailable: "UNAVAILABLE"}[e.status]
	if code == "" {
		code = "UNSUPPORTED"
	}
	writeToken(w, e.status, map[string]any{
		"error":             e.oauth,
		"error_description": e.text,
		"errors":            []map[string]string{{"code": code, "message": e.text}},
	})
}

func writeToken(w http.ResponseWriter, status int, answer map[string]any) {
	text, err := json.Marshal(answer)
	if err != nil { // cannot happen: every value can be marshalled
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text) // fails only if the client went away
}
