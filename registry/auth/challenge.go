package auth

import (
	"fmt"
	"net/http"
	"strings"
)

// Challenge is the WWW-Authenticate header of a 401 to a request that came without a token: without it podman and docker
// give up instead of sending the password that they have.
const Challenge = `Basic realm="appliance", charset="UTF-8"`

// What a token challenge says is wrong, in the terms of RFC 6750.
const (
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
)

// ChallengeFor is the WWW-Authenticate header of a 401 to a request whose login does not reach a scope. A request that
// came with a token is told to fetch another one: with the scope, and with the password if there is one.
func ChallengeFor(r *http.Request, scope Scope) string {
	if _, ok := bearer(r); !ok {
		return Challenge
	}
	return tokenChallenge(r, scope.Challenge(), insufficientScope)
}

// tokenChallenge is a Bearer challenge. The realm is where tokens are issued, under the name by which the client came:
// it knows that one and trusts its certificate.
func tokenChallenge(r *http.Request, scope, problem string) string {
	if r.Host == "" || strings.ContainsAny(r.Host, `"\/@?# `) {
		return Challenge // no client sends such a name
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

// challenges are the WWW-Authenticate headers of a 401. A client that sent a token gets a token challenge, one that sent
// a password or asks for content gets Basic. Both would do only where a client asks for /v2/ to find out how to log
// in, and there clients differ:
//
//   - containers/image (podman, skopeo, CRI-O, oc-mirror) and go-containerregistry (crane) take the first challenge that
//     they know, with a password and without one. Basic comes first: it saves the request for a token.
//   - docker, and what is made of its library (oc, the image import of OpenShift), take every challenge one after the
//     other, and give up at a Basic one if they have no password. They get the token challenge alone. A client that
//     is not known counts as one of these: to it, Basic beside the other is what may fail.
//   - containerd, regctl and oras do not ask for /v2/ first. They are challenged where they need a login.
func (a *Authenticator) challenges(r *http.Request, action Action, scope string) []string {
	if _, ok := bearer(r); ok {
		return []string{tokenChallenge(r, scope, invalidToken)}
	}
	if action != Login || len(a.Anonymous) == 0 || sent(r) {
		return []string{Challenge}
	}
	if takesFirst(r) {
		return []string{Challenge, tokenChallenge(r, "", "")}
	}
	return []string{tokenChallenge(r, "", "")}
}

// takesFirst reports whether the client takes the first of several challenges. containers/image sends a header of its
// own; a request without a User-Agent comes from a script, since every registry client names itself.
func takesFirst(r *http.Request) bool {
	agent := r.UserAgent()
	return agent == "" || strings.HasPrefix(agent, "curl/") || strings.Contains(agent, "go-containerregistry") ||
		r.Header.Get("Docker-Distribution-Api-Version") != ""
}

// sent reports whether the request came with a login of any kind.
func sent(r *http.Request) bool {
	name, password, ok := r.BasicAuth()
	return ok && (name != "" || password != "")
}

// bearer returns the token of a request.
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}
