package config_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

// What scripts around mirror-registry grep for is there, alone at the beginning of a
// line, and true.
func TestFollow(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a changed hostname":        {strings.Replace(string(config.Sample()), "hostname: registry", "hostname: mirror", 1), "mirror.example.com:8443"},
		"a changed port":            {strings.Replace(string(config.Sample()), "port: 8443", "port: 9443", 1), "registry.example.com:9443"},
		"the port of https":         {strings.Replace(string(config.Sample()), "port: 8443", "port: 443", 1), "registry.example.com"},
		"a file without the line":   {least, "registry.example.com:8443"},
		"a last line without end":   {strings.TrimSuffix(least, "\n"), "registry.example.com:8443"},
		"line ends as Windows has":  {strings.ReplaceAll(least+"SERVER_HOSTNAME: x\n# end\n", "\n", "\r\n"), "registry.example.com:8443"},
		"a line that is empty":      {"SERVER_HOSTNAME:\n" + least, "registry.example.com:8443"},
		"a line that is true":       {string(config.Sample()), "registry.example.com:8443"},
		"a line that names nothing": {least + "SERVER_HOSTNAME: ''\n", "registry.example.com:8443"},
		"a comment that names it":   {"# not SERVER_HOSTNAME: x\n" + least + "SERVER_HOSTNAME: x\n", "registry.example.com:8443"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Parse("c", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			out := config.Follow([]byte(c.text), cfg)
			var found []string
			for line := range strings.Lines(string(out)) {
				if value, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "SERVER_HOSTNAME: "); ok {
					found = append(found, value)
				}
			}
			if len(found) != 1 || found[0] != c.want {
				t.Errorf("found %q, want %q, in\n%s", found, c.want, out)
			}
			if strings.Contains(c.text, "\r") && bytes.Count(out, []byte("\n")) != bytes.Count(out, []byte("\r\n")) {
				t.Errorf("a line ends as the others do not: %q", out)
			}
			again, err := config.Parse("c", out)
			if err != nil || !reflect.DeepEqual(again, cfg) {
				t.Errorf("it reads as %+v, %v, want %+v", again, err, cfg)
			}
			if !bytes.Equal(config.Follow(out, cfg), out) {
				t.Error("the second time changes it again")
			}
		})
	}
}

func TestSetTLS(t *testing.T) {
	const from, to = "/var/lib/appliance/quay-rootCA/rootCA-key.pem", "/elsewhere/key.pem"
	cfg, err := config.Parse("c", config.Sample())
	if err != nil {
		t.Fatal(err)
	}
	with := func(t config.TLS) config.TLS { t.CAKey = to; return t }
	moved, changed, ok := config.SetTLS(config.Sample(), cfg, with(cfg.TLS))
	if !ok || changed.TLS.CAKey != to || !bytes.Equal(moved, bytes.Replace(config.Sample(), []byte("caKey: "+from), []byte("caKey: "+to), 1)) {
		t.Errorf("moved %v\n%s", ok, moved)
	}
	t.Run("a key below another", func(t *testing.T) {
		named := cfg.TLS
		named.ACME.Directory = "https://ca.test/dir"
		text, with, ok := config.SetTLS(config.Sample(), cfg, named)
		if !ok {
			t.Fatal("not changed")
		}
		if back, plain, ok := config.SetTLS(text, with, cfg.TLS); !ok || plain.TLS != cfg.TLS || !bytes.Equal(back, config.Sample()) {
			t.Errorf("%v\n%s", ok, back)
		}
	})
	t.Run("to the user's own, with what the user has written", func(t *testing.T) {
		text := bytes.Replace(config.Sample(), []byte("ca: /var"), []byte(`ca:   "/var`), 1)
		text = bytes.Replace(text, []byte("rootCA.pem\n"), []byte("rootCA.pem\" # ours\n"), 1)
		cfg, err := config.Parse("c", text)
		if err != nil {
			t.Fatal(err)
		}
		changed, own, ok := config.SetTLS(text, cfg, config.TLS{Certificate: "/c", Key: cfg.TLS.Key})
		if !ok || own.TLS.CA+own.TLS.CAKey+own.TLS.State != "" || !strings.Contains(string(changed), "\n  ca:   \"\" # ours\n") || !strings.Contains(string(changed), "certificate: /c\n") {
			t.Errorf("%v\n%s", ok, changed)
		}
	})
	for name, odd := range map[string][]byte{
		"no key":                            []byte(least),
		"a value on a line of its own":      bytes.Replace(config.Sample(), []byte("caKey: "+from), []byte("caKey: >-\n    "+from), 1),
		"another key of that value":         []byte(least[:strings.Index(least, "tls:")] + "tls: {certificate: " + from + ", key: /k, ca: /c, state: /s, caKey: " + from + "}\n"),
		"lines that end as on a Mac of old": bytes.ReplaceAll(config.Sample(), []byte("\n"), []byte("\r")),
	} {
		cfg, err := config.Parse("c", odd)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if moved, _, ok := config.SetTLS(odd, cfg, with(cfg.TLS)); ok {
			t.Errorf("%s: it is moved:\n%s", name, moved)
		}
	}
}

func TestReaddress(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		port   int
		want   string // in the text
		refuse bool
	}{
		"as it was written":       {string(config.Sample()), 9443, "\nport: 9443\n", false},
		"the port of the default": {least, 9443, "\nport: 9443\n", false},
		"another listener":        {least + "port: 8443 # ours\nlisten: 127.0.0.1:8443\n", 9443, "\nport: 9443 # ours\nlisten: 127.0.0.1:8443\n", false},
		"its listener":            {least + "port: 8443\nlisten: :8443\n", 9443, "\nport: 9443\nlisten: :9443\n", false},
		"on a line of its own":    {least + "port:\n  8443\n", 9443, "\nport:\n  9443\n", false},
		"over several lines":      {strings.Replace(least, "hostname: ", "hostname: >-\n  ", 1), 9443, "", true},
	} {
		cfg, err := config.Parse("c", []byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, changed, ok := config.Readdress([]byte(c.text), cfg, "new.example.com", c.port)
		switch {
		case ok == c.refuse:
			t.Errorf("%s: %v\n%s", name, ok, text)
		case !ok:
		case changed.Port != c.port || changed.Hostname != "new.example.com" || !strings.Contains(string(text), c.want):
			t.Errorf("%s: %+v\n%s", name, changed, text)
		}
	}
}
