package role_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/sealed"
)

// sealWith returns what encrypts with a key of one letter.
func sealWith(t *testing.T, letter string) *role.Seal {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(letter), 32))), 0o600))
	key, err := sealed.ReadKey(file)
	must(t, err)
	return &role.Seal{Close: func(text string) string { return key.Seal("login", text) }, Open: func(text string) (string, error) { return key.Unseal("login", text) }}
}

// With a key, the note does not have the password of the first, from the next write on.
func TestFamily_seal(t *testing.T) {
	first, second := newAppliance(t), newAppliance(t)
	second.follows(first)
	is := func(when string, clear bool, want string) {
		t.Helper()
		text, err := second.store.Note(t.Context(), "role")
		must(t, err)
		if strings.Contains(text, password) != clear {
			t.Errorf("%s the note is %s", when, text)
		}
		if got := second.State().First.Password; got != want {
			t.Errorf("%s the password is %q", when, got)
		}
	}
	is("without a key", true, password)
	second.seal = sealWith(t, "a")
	second.restart()
	is("with a key", true, password)
	second.follows(first)
	is("after a write", false, password)
	second.restart()
	is("after a restart", false, password)
	second.seal = sealWith(t, "b")
	second.restart()
	is("with another key", false, "")
	if !strings.Contains(second.log.String(), "give it again by appliance follow") {
		t.Error("the log does not tell that the password cannot be read")
	}
	second.follows(first)
	is("with the login again", false, password)
}
