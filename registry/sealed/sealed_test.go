package sealed

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keyFile writes a file with a key of one letter, as openssl rand -base64 32 does.
func keyFile(t *testing.T, letter string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shared-key")
	must(t, os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, keySize)))+"\n"), 0o600))
	return file
}

func readKey(t *testing.T, letter string) *Key {
	t.Helper()
	k, err := ReadKey(keyFile(t, letter))
	must(t, err)
	return k
}

func TestReadKey(t *testing.T) {
	if a, b, c := readKey(t, "a"), readKey(t, "a"), readKey(t, "b"); a.id != b.id || a.id == c.id || len(a.id) != 12 {
		t.Errorf("the ids are %s, %s, %s", a.id, b.id, c.id)
	}
	short := base64.StdEncoding.EncodeToString([]byte("SECRETSECRETSECRET"))
	for text, want := range map[string]string{"": "not one line", short: "not one line", "SECRET in clear": "not one line", strings.Repeat(short, 9): "not one line"} {
		file := filepath.Join(t.TempDir(), "key")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" || strings.Contains(err.Error()+hint.Of(err), "SECRET") || strings.Contains(err.Error(), short) {
			t.Errorf("%q: %v", text, err)
		}
	}
	open := keyFile(t, "a")
	must(t, os.Chmod(open, 0o640))
	if _, err := ReadKey(open); err == nil || !strings.Contains(err.Error(), "mode 0640") || !strings.Contains(hint.Of(err), "chmod 600 "+open) {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := ReadKey(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(hint.Of(err), "openssl rand -base64 32") {
		t.Errorf("absent: %v", err)
	}
}

func TestKey_open(t *testing.T) {
	k := readKey(t, "a")
	v := k.close("CA", []byte("a text"))
	if text, err := k.open("CA", v); err != nil || string(text) != "a text" {
		t.Fatalf("%q, %v", text, err)
	}
	if strings.Contains(string(v.Data), "text") || string(v.Data) == string(k.close("CA", []byte("a text")).Data) {
		t.Errorf("encrypted as %q", v.Data)
	}
	if _, err := k.open("certificate", v); err == nil || hint.Of(err) == "" {
		t.Errorf("under another name: %v", err)
	}
	if _, err := readKey(t, "b").open("CA", v); err == nil || !strings.Contains(err.Error(), "have another key than") || !strings.Contains(err.Error(), k.id) || hint.Of(err) == "" {
		t.Errorf("with another key: %v", err)
	}
	v.Data[len(v.Data)-1] ^= 1
	if _, err := k.open("CA", v); err == nil || !strings.Contains(err.Error(), "does not decrypt") {
		t.Errorf("with a changed bit: %v", err)
	}
}

// What the daemons sign with takes the key and the secret of the database: neither alone has it.
func TestKey_Mix(t *testing.T) {
	mix := func(letter, secret string) string {
		return string(readKey(t, letter).Mix([]byte(secret)))
	}
	of := mix("a", "secret")
	if of != mix("a", "secret") {
		t.Error("two daemons with one key have different secrets")
	}
	for what, other := range map[string]string{"another key": mix("b", "secret"), "another secret": mix("a", "other"), "the secret itself": "secret"} {
		if other == of {
			t.Errorf("%s has the same secret", what)
		}
	}
}
