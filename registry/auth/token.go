package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// tokenLife is short because only its age and a change of its user's password end a token.
	// Clients fetch the next one themselves.
	tokenLife = 5 * time.Minute
	// tokenLeeway is for a client that sends a token in its last second.
	tokenLeeway = 30 * time.Second
)

// errToken reports a token with a wrong signature, of the wrong age, or of a user
// whose password has changed.
var errToken = errors.New("the token is not valid any more")

// claims are the contents of a token. The server stores none: the key that signs them outlives the
// process, so a restart of the daemon does not end a push.
type claims struct {
	User   string  `json:"sub"`             // empty: anonymous
	Stamp  string  `json:"stamp,omitempty"` // of the user's password, see stamp
	Issued int64   `json:"iat"`             // Unix time in seconds
	Scopes []Scope `json:"access"`
}

// SignWith sets the secret from which the keys of tokens are derived. Without it
// tokens end with the process.
func (a *Authenticator) SignWith(secret []byte) {
	a.tokenKey = derive(secret, "appliance: tokens")
	a.stampKey = derive(secret, "appliance: stamps of users in tokens")
}

// derive returns the key of one purpose of a secret.
func derive(secret []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// issue returns a token for those of the scopes that the user may have.
func (a *Authenticator) issue(ctx context.Context, id Identity, asked []Scope) (token string, c claims, err error) {
	c = claims{User: id.Name, Issued: a.now().Unix(), Scopes: id.grant(asked)}
	if !id.Anonymous() {
		record, ok, err := a.record(ctx, id.Name)
		if err != nil || !ok {
			return "", claims{}, errors.Join(err, errToken) // the user was removed since its login
		}
		c.Stamp = a.stamp(id.Name, record)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "", claims{}, fmt.Errorf("marshal a token: %w", err)
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	return body + "." + base64.RawURLEncoding.EncodeToString(derive(a.tokenKey, body)), c, nil
}

// redeem returns the user of a token, limited to the token's scopes. The user is looked up anew, so
// a change of role or grants takes effect at once. A token that is not valid is errToken.
func (a *Authenticator) redeem(ctx context.Context, token string) (Identity, error) {
	body, signature, _ := strings.Cut(token, ".")
	mac, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(mac, derive(a.tokenKey, body)) {
		return Identity{}, errToken
	}
	var c claims
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	// A token from the future was issued before the clock was set back: it must not
	// live until then.
	if age := a.now().Sub(time.Unix(c.Issued, 0)); err != nil || age < -tokenLeeway || age > tokenLife+tokenLeeway {
		return Identity{}, errToken
	}
	if c.Scopes == nil {
		c.Scopes = []Scope{}
	}
	if c.User == "" {
		id, refused := a.anonymous(Read)
		if refused.status != 0 {
			return Identity{}, errToken // anonymous pulls have been turned off
		}
		id.scopes = c.Scopes
		return id, nil
	}
	record, ok, err := a.record(ctx, c.User)
	if err != nil {
		return Identity{}, fmt.Errorf("look up user %q: %w", c.User, err)
	}
	if !ok || !hmac.Equal([]byte(c.Stamp), []byte(a.stamp(c.User, record))) {
		return Identity{}, errToken
	}
	id, err := a.identity(c.User, record)
	id.scopes = c.Scopes
	return id, err
}

// stamp changes with a user's password and when a user is deleted and created again.
func (a *Authenticator) stamp(name string, record Record) string {
	return base64.RawURLEncoding.EncodeToString(derive(a.stampKey, name+"\x00"+string(record.PasswordHash))[:12])
}
