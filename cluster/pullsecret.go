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
	"strings"
)

// auths is a pull secret.
type auths struct {
	Auths map[string]map[string]any `json:"auths"`
}

// Auth returns the entry of a registry in a pull secret, "" if it has none, and the name of its
// user.
func Auth(secret []byte, address string) (auth, user string, err error) {
	var a auths
	if err := json.Unmarshal(secret, &a); err != nil {
		return "", "", errors.New("it is not a pull secret, JSON with auths") // the parser's error may quote it
	}
	names := []string{address}
	if host, ok := strings.CutSuffix(address, ":443"); ok {
		names = append(names, host)
	} else if !strings.Contains(address, ":") {
		names = append(names, address+":443")
	}
	for _, name := range names {
		auth, _ := a.Auths[name]["auth"].(string)
		if auth == "" {
			continue
		}
		login, err := base64.StdEncoding.DecodeString(auth)
		user, password, ok := strings.Cut(string(login), ":")
		if err != nil || !ok || user == "" || password == "" {
			return "", "", fmt.Errorf("the auth of %s is not that of a user and a password", name)
		}
		return auth, user, nil
	}
	return "", "", nil
}

// NewAuth returns the auth of a user and a password.
func NewAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
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
