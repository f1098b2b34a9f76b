package auth

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestRole_May(t *testing.T) {
	for role, want := range map[Role][3]bool{
		Admin: {true, true, true}, Push: {true, true, false}, Pull: {true, false, false}, "": {}, "emperor": {},
	} {
		for i, action := range []Action{Read, Write, Administer} {
			if got := role.May(action); got != want[i] {
				t.Errorf("%q may %d: %v", role, action, got)
			}
		}
		if role.May(Action(99)) {
			t.Errorf("%q may do an unknown action", role)
		}
	}
}

func TestParseRole(t *testing.T) {
	for _, s := range []string{"admin", "push", "pull"} {
		if r, err := ParseRole(s); err != nil || string(r) != s {
			t.Errorf("%s: %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "Admin", "root"} {
		if _, err := ParseRole(s); hint(err) == "" {
			t.Errorf("%q: %v has no hint", s, err)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	for pw, ok := range map[string]bool{
		"12345678": true, "pässwört": true, strings.Repeat("a", 72): true,
		"": false, "1234567": false, "1234 5678": false, "12345678\t": false, "1234567\u00a08": false, "1234567\x018": false, "12345678\x7f": false,
		strings.Repeat("a", 73): false, strings.Repeat("ä", 37): false, "12345678\xff": false,
	} {
		err := CheckPassword(pw)
		if (err == nil) != ok {
			t.Errorf("%q: %v", pw, err)
		}
		if err != nil && (hint(err) == "" || pw != "" && strings.Contains(err.Error(), pw)) {
			t.Errorf("%q: %v", pw, err)
		}
		if hash, err := HashPassword(pw); (err == nil) != ok || ok && bcrypt.CompareHashAndPassword(hash, []byte(pw)) != nil {
			t.Errorf("hash of %q: %q, %v", pw, hash, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"init": true, "puller": true, "openshift+robot": true, "a.b-c_d@e": true, "7": true, strings.Repeat("a", 255): true,
		"": false, "a:b": false, "a b": false, "a/b": false, "ä": false, "a\n": false, "-a": false, ".": false, strings.Repeat("a", 256): false,
	} {
		err := CheckName(name)
		if (err == nil) != ok || err != nil && hint(err) == "" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
