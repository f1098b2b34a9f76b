package pgurl

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://app@db.internal/store":                                      "postgres://app@db.internal/store",
		"postgresql://app@db.internal:5432/store?sslmode=verify-full":           "postgres://app@db.internal:5432/store",
		"postgres://app@a:5432,b,[::1]:5/store?target_session_attrs=read-write": "postgres://app@a:5432,b,[::1]:5/store",
		"postgres://app@/store?host=/run/postgresql":                            "postgres://app@/store",
		"postgres://app@h/store?sslrootcert=system":                             "postgres://app@h/store",
		"postgres://app@h/store?passfile=/etc/x&sslkey=/k&sslcert=/c":           "postgres://app@h/store",
		"postgres://app:secret@h/store":                                         "has a password",
		"postgres://app%3Asecret@h/store":                                       "has a password",
		"postgres://app@h/store?password=secret":                                "has a password",
		"postgres://app@h/store?sslpassword=secret":                             "has a password",
		"postgres://app:sec?ret=secret@h/store":                                 "has no USER@",
		"postgres://app:sec/ret-secret@h/store":                                 "has no USER@",
		"postgres://h/store":                                                    "has no USER@",
		"postgres://app@h":                                                      "no name of a database",
		"postgres://app@h/a/b":                                                  "no name of a database",
		"postgres://app@/store":                                                 "has no host",
		"postgres://app@h:port/store":                                           "not of the form",
		"postgres://app@h:99999/store":                                          "from 1 to 65535",
		"postgres://app@h,i:0/store":                                            "from 1 to 65535",
		"postgres://app@/store?host=/run&port=5432,x":                           "from 1 to 65535",
		"postgres://app@h/store?connect_timeout=abc":                            "a number of seconds",
		"postgres://app@h/store?target_session_attrs=foo":                       "is one of any, ",
		"postgres://app@h,i/store?target_session_attrs=standby":                 "the primary is used",
		"postgres://app@h/store?port=5433&connect_timeout=10":                   "postgres://app@h/store",
		"postgres://app@h store/store":                                          "not of the form",
		"postgres://app@h/store?sslmode=verify":                                 "sslmode is one of",
		"postgres://app@h/store?sslmod=verify-full":                             `"sslmod" is not a parameter`,
		"postgres://app@h/store?sslmode=":                                       `"sslmode" needs one value`,
		"postgres://app@h/store?passfile=x":                                     "passfile is not a whole path",
		"postgres://app@h/store?sslmode=disable#x":                              "after #",
		"postgres://app@h/store?a=%zz":                                          "malformed",
		"/srv/postgres://x":                                                     "does not begin",
	} {
		a, err := Parse(text)
		got := a.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || strings.Contains(got, "secret") {
			t.Errorf("%s gives %q, want %q", text, got, want)
		}
	}
}

func TestParse_files(t *testing.T) {
	a, err := Parse("postgres://app@h/store?passfile=/p&sslkey=/k&sslcert=/c&sslrootcert=/r&sslmode=verify-full")
	if err != nil || a.Passfile != "/p" || a.Key != "/k" || len(a.Certificates) != 2 || !a.Encrypted {
		t.Errorf("got %+v, %v", a, err)
	}
	if a, err := Parse("postgres://app@h/store?sslmode=prefer"); err != nil || a.Encrypted {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestIs(t *testing.T) {
	if !Is("postgres://x") || !Is("postgresql://x") || Is("/srv/postgres://") || Is("postgres") {
		t.Error("a path is taken for an address")
	}
}
