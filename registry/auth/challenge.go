package auth

import (
	"fmt"
	"net/http"
	"strings"
)

// challenge is the WWW-Authenticate header of a 401 to a request without a token. Without the
// header podman and docker give up instead of sending their password.
const challenge = `Basic realm="appliance", charset="UTF-8"`

// Error codes of a token challenge, RFC 6750.
const (
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
)

// ChallengeFor returns the WWW-Authenticate header of a 401 to a request whose login does not cover
// a scope. A request with a token is told to fetch another one.
func ChallengeFor(r *http.Request, scope Scope) string {
	if _, ok := bearer(r); !ok {
		return challenge
	}
	return tokenChallenge(r, scope.Challenge(), insufficientScope)
}

// tokenChallenge returns a Bearer challenge. Its realm has the host name that the client used: the
// client knows it and trusts its certificate.
func tokenChallenge(r *http.Request, scope, problem string) string {
	if r.Host == "" || strings.ContainsAny(r.Host, `"\/@?# `) {
		return challenge // clients do not send such names
	}
	scheme := "https"
	if r.TLS == nil {
		scheme = "http"
	}
	c := fmt.Sprintf(`Bearer realm="%s://%s%s",service="%s"`, scheme, r.Host, TokenPath, r.Host)
	if scope != "" {
		c += fmt.Sprintf(`,scope="%s"`, scope)
	}
	if problem != "" {
		c += fmt.Sprintf(`,error="%s"`, problem)
	}
	return c
}

// challenges returns the WWW-Authenticate headers of a 401. A request with a token gets a token
// challenge. A request with a password, or for content, gets Basic. At /v2/, where a client asks
// how to log in, clients differ:
//
//   - containers/image (podman, skopeo, CRI-O, oc-mirror) and go-containerregistry (crane) take the
//     first challenge that they know, with or without a password. Basic comes first, which saves
//     the request for a token.
//   - docker, and the clients made of its library (oc, the image import of OpenShift), try every
//     challenge and give up at Basic if they have no password. They get the token challenge alone.
//     So do unknown clients, to which Basic beside a token challenge may be fatal.
//   - containerd, regctl and oras do not ask for /v2/ first. They are challenged
//     where they need a login.
func (a *Authenticator) challenges(r *http.Request, action Action, scope string) []string {
	if _, ok := bearer(r); ok {
		return []string{tokenChallenge(r, scope, invalidToken)}
	}
	if action != Login || len(a.Anonymous) == 0 || sent(r) {
		return []string{challenge}
	}
	if takesFirst(r) {
		return []string{challenge, tokenChallenge(r, "", "")}
	}
	return []string{tokenChallenge(r, "", "")}
}

// takesFirst reports whether the client takes the first of several challenges.
// containers/image sends a header of its own. A request without a User-Agent comes from a
// script: every registry client names itself.
func takesFirst(r *http.Request) bool {
	agent := r.UserAgent()
	return agent == "" || strings.HasPrefix(agent, "curl/") || strings.Contains(agent, "go-containerregistry") ||
		r.Header.Get("Docker-Distribution-Api-Version") != ""
}

// sent reports whether the request has a name or a password.
func sent(r *http.Request) bool {
	name, password, ok := r.BasicAuth()
	return ok && (name != "" || password != "")
}

// bearer returns the token of a request.
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}
