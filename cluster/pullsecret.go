package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// auths is a pull secret.
type auths struct {
	Auths map[string]map[string]any `json:"auths"`
}

// Auth returns the entry of a registry in a pull secret, "" if it has none, and the name of its
// user. Entries are understood as those of podman and docker: with username and password too, and
// by names such as https://HOST/v1/.
func Auth(secret []byte, address string) (auth, user string, err error) {
	var a auths
	if err := json.Unmarshal(secret, &a); err != nil {
		return "", "", errors.New("it is not a pull secret, JSON with auths") // the parser's error may quote it
	}
	registry, err := name.NewRegistry(address)
	if err != nil {
		return "", "", err
	}
	text, err := json.Marshal(a) // without credential helpers, whose programs would be run
	if err != nil {
		return "", "", err
	}
	login, err := upstream.Logins(text).Resolve(registry)
	var found *authn.AuthConfig
	if err == nil {
		found, err = login.Authorization()
	}
	switch {
	case err == nil && *found == authn.AuthConfig{}:
		return "", "", nil
	case err != nil || found.Username == "" || found.Password == "":
		return "", "", fmt.Errorf("the auth of %s is not that of a user and a password", address)
	}
	return NewAuth(found.Username, found.Password), found.Username, nil
}

// AnyAuth returns the entry of a pull secret that has one login, for one or several addresses of a
// registry.
func AnyAuth(secret []byte) (auth string, err error) {
	var a auths
	if err := json.Unmarshal(secret, &a); err != nil {
		return "", errors.New("it is not a pull secret, JSON with auths")
	}
	for address := range a.Auths {
		one, _, err := Auth(secret, address)
		switch {
		case err != nil:
			return "", err
		case auth != "" && auth != one:
			return "", errors.New("it has more than one login")
		}
		auth = one
	}
	if auth == "" {
		return "", errors.New("it has no login")
	}
	return auth, nil
}

// NewAuth returns the auth of a user and a password.
func NewAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// Merge returns a pull secret with the auth of registries, by their addresses, besides all that it has.
// It stays on one line if it is on one.
func Merge(secret []byte, logins map[string]string) ([]byte, error) {
	whole := map[string]json.RawMessage{}
	entries := map[string]json.RawMessage{}
	if json.Unmarshal(secret, &whole) != nil || whole == nil {
		return nil, errors.New("it is not a pull secret, JSON with auths")
	}
	if have := whole["auths"]; have != nil && (json.Unmarshal(have, &entries) != nil || entries == nil) {
		return nil, errors.New("its auths are not those of a pull secret")
	}
	for address, auth := range logins {
		entry, err := json.Marshal(map[string]string{"auth": auth})
		if err != nil {
			return nil, err
		}
		entries[address] = entry
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	whole["auths"] = text
	if text, err = json.Marshal(whole); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if bytes.Contains(bytes.TrimSpace(secret), []byte("\n")) {
		err = json.Indent(&out, text, "", "  ")
	} else {
		out.Write(text)
	}
	out.WriteByte('\n')
	return out.Bytes(), err
}

// with returns a pull secret with the logins of registries besides its own, on one line.
func (a auths) with(registries []Registry) (string, error) {
	all := auths{map[string]map[string]any{}}
	maps.Copy(all.Auths, a.Auths)
	for _, r := range registries {
		if r.Auth != "" {
			all.Auths[r.Address] = map[string]any{"auth": r.Auth}
		}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// splitCertificates returns each certificate of a text in PEM form.
func splitCertificates(text []byte) (all []string) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, string(pem.EncodeToMemory(block)))
	}
	return all
}

// lastLines returns the last whole line of each certificate, which tells certificates apart: it is
// of the signature.
func lastLines(text []byte) []string {
	found := map[string]bool{}
	for _, one := range splitCertificates(text) {
		lines := bytes.Split(bytes.TrimSpace([]byte(one)), []byte("\n"))
		if len(lines) > 3 {
			found[string(lines[len(lines)-3])] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// SameCAs reports whether two texts in PEM form have the same certificates.
func SameCAs(a, b []byte) bool {
	x, y := splitCertificates(a), splitCertificates(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(slices.Compact(x), slices.Compact(y))
}
