package support

import "testing"

// Each kind of secret is found by itself, where no other rule has it.
func TestRedactor(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a private key", "a\n-----BEGIN RSA PRIVATE KEY-----\nshort\n-----END RSA PRIVATE KEY-----\nb", "a\n[removed]\nb"},
		{"a private key that is cut off", "a\n-----BEGIN PRIVATE KEY-----\nshort\n", "a\n[removed]"},
		{"a header", "Authorization: Custom plain", "Authorization: [removed]"},
		{"a header of a log", `h="X-Registry-Auth: plain" b=1`, `h="X-Registry-Auth: [removed]" b=1`},
		{"a scheme", "sent Basic Zm9vOmJhcg== to x", "sent Basic [removed] to x"},
		{"a word after a scheme", "Basic authentication is used", "Basic authentication is used"},
		{"what install prints", "with credentials (init, plain(word)", "with credentials (init, [removed])"},
		{"a quoted variable", `Environment="DB_PASSWORD=plain words here"`, `Environment="DB_PASSWORD=[removed]"`},
		{"a key", "password: plain", "password: [removed]"},
		{"a key of JSON", `{"identityToken":"plain","n":1}`, `{"identityToken":"[removed]","n":1}`},
		{"a list of variables", "A=1 API_KEY=plain B=2", "A=1 API_KEY=[removed] B=2"},
		{"a flag", "run --dest-creds user:plain x", "run --dest-creds [removed] x"},
		{"a parameter", "GET /x?sig=plain&ns=quay.io", "GET /x?sig=[removed]&ns=quay.io"},
		{"an address of a database", "database: postgres://u:plain/word@db:5432/x", "database: postgres://[removed]@db:5432/x"},
		{"a mistyped one", `{"a":"postgres:u:plain@db/x"}`, `{"a":"postgres:[removed]@db/x"}`},
		{"one of keys", "database: host=db password=plain dbname=x", "database: host=db password=[removed] dbname=x"},
		{"a switch and a number", `{"auth": true, "tokens": 17, "store_users": 3}`, `{"auth": true, "tokens": 17, "store_users": 3}`},
		{"a file", "/root/quay-install/quay-config/pull-secret.json: permission denied", "/root/quay-install/quay-config/pull-secret.json: permission denied"},
		{"a path", "secret: /root/quay-install/quay-config/pull-secret.json", "secret: /root/quay-install/quay-config/pull-secret.json"},
		{"known, in JSON and in a URL", `a "kn\"own" kn%22own`, `a "[removed]" [removed]`},
		{"a digest", "sha256:0f3ea5bd4e0a6b3e4d1c2b9a8f7e6d5c4b3a29180f7e6d5c4b3a29180f7e6d5c", "sha256:0f3ea5bd4e0a6b3e4d1c2b9a8f7e6d5c4b3a29180f7e6d5c4b3a29180f7e6d5c"},
	} {
		r := newRedactor()
		r.learn(`kn"own`)
		if got := r.text(tc.text); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestRedactor_learnsFromText(t *testing.T) {
	r := newRedactor()
	r.learnFrom("https://u:plain%40word@x/y\nMY_TOKEN=plain-value-1\ndebug=value-value-1\n")
	if got, want := r.text("plain@word plain%40word plain-value-1 value-value-1"), "[removed] [removed] [removed] value-value-1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestUnitVariables(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"[Service]\nEnvironment=X_KEY=one OPAQUE=two TZ=UTC\nExecStart=/x A=b\n", "[Service]\nEnvironment=X_KEY=[removed] OPAQUE=[removed] TZ=UTC\nExecStart=/x A=b\n"},
		{"  Environment = 'A=one two' \"B=three \\\" four\" C=\"five six\"\n", "  Environment = 'A=[removed]' \"B=[removed]\" C=[removed]\n"},
		{"Environment=A=one \\\n  B=two\nUser=x\n", "Environment=A=[removed] \\\n  B=[removed]\nUser=x\n"},
		{"Environment=A=\"no end\nUser=x\n", "Environment=[removed]\nUser=x\n"},
		{"EnvironmentFiles=/etc/x (ignore_errors=no)\n", "EnvironmentFiles=/etc/x (ignore_errors=no)\n"},
	} {
		if got := unitVariables(tc.text); got != tc.want {
			t.Errorf("of %q it leaves %q", tc.text, got)
		}
	}
}
