package systemd

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func TestUnits(t *testing.T) {
	system := ServiceOptions{
		Binary: "/usr/local/bin/appliance", Config: "/var/lib/appliance/quay-config/config.yaml",
		DataDirs: []string{"/var/lib/appliance", "/srv/quay-storage"}, User: "appliance",
	}
	home := ServiceOptions{
		Binary: "/usr/local/bin/appliance", Config: "/root/quay-install/quay-config/config.yaml",
		DataDirs: []string{"/root/quay-install", "/srv/quay-storage"}, ReadDirs: []string{"/etc/pki/registry", "/home/admin/certs"}, User: "appliance",
	}
	odd := ServiceOptions{
		Binary: `/opt/my $apps/app liance`, Config: `/home/a b/100% "quay" $HOME it's\x20/c.yaml`,
		DataDirs: []string{`/home/a b/100% "quay" $HOME it's\x20`, "/srv/x:y"}, User: "quay",
	}
	links := ServiceOptions{ // /srv/quay leads to /home/y/quay, its storage to /data, and /opt/certs to /root/certs by way of /srv
		Binary: "/usr/local/bin/appliance", Config: "/srv/quay/quay-config/config.yaml",
		DataDirs: []string{"/srv/quay", "/srv/quay/quay-storage"}, ReadDirs: []string{"/opt/certs"}, User: "appliance",
		Ways: func(path string) []string {
			known := map[string][]string{
				"/srv/quay":              {"/srv/quay", "/home/y/quay"},
				"/srv/quay/quay-config":  {"/srv/quay/quay-config", "/home/y/quay/quay-config"},
				"/srv/quay/quay-storage": {"/srv/quay/quay-storage", "/home/y/quay/quay-storage", "/data"},
				"/opt/certs":             {"/opt/certs", "/srv/certs", "/var/roothome/certs"},
				"/root":                  {"/root", "/var/roothome"},
			}
			if ways, ok := known[path]; ok {
				return ways
			}
			return []string{path}
		},
	}
	user := ServiceOptions{
		Binary: "/home/tester/.local/bin/appliance", Config: "/home/tester/quay-install/quay-config/config.yaml",
		DataDirs: []string{"/home/tester/quay-install"}, UserUnit: true,
	}
	for name, text := range map[string][]byte{
		"system.service": ServiceUnit(system),
		"home.service":   ServiceUnit(home),
		"odd.service":    ServiceUnit(odd),
		"links.service":  ServiceUnit(links),
		"user.service":   ServiceUnit(user),
		"socket.socket":  SocketUnit(8443),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(text, want) {
				t.Errorf("differs from %s (go test ./systemd -update, then look at the difference):\n%s", file, text)
			}
		})
	}
}

// words splits a value as systemd does: extract_first_word with EXTRACT_UNQUOTE, which differs from
// list to list in which escapes it knows. escapes lists the characters that may follow a backslash.
func words(t *testing.T, value, escapes string) []string {
	t.Helper()
	var out []string
	var word strings.Builder
	var quoting rune
	inWord, escaped := false, false
	for _, c := range value {
		switch {
		case escaped:
			if !strings.ContainsRune(escapes, c) {
				t.Fatalf("\\%c in %s is no escape in every list", c, value)
			}
			word.WriteRune(c)
			escaped = false
		case c == '\\':
			inWord, escaped = true, true
		case quoting != 0 && c == quoting:
			quoting = 0
		case quoting == 0 && (c == '"' || c == '\''):
			inWord, quoting = true, c
		case quoting == 0 && (c == ' ' || c == ':'):
			if inWord {
				out = append(out, word.String())
			}
			word.Reset()
			inWord = false
		default:
			inWord = true
			word.WriteRune(c)
		}
	}
	if quoting != 0 || escaped {
		t.Fatalf("%s ends in the middle of a quotation", value)
	}
	return append(out, word.String())
}

// values are those of one key in a unit text.
func values(text []byte, key string) []string {
	var out []string
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			out = append(out, strings.TrimSuffix(value, "\n"))
		}
	}
	return out
}

func TestServiceUnit_OddPaths(t *testing.T) {
	for _, path := range []string{
		"/plain", "/a b", "/100%", "/%h", `/say "hi"`, `/it's`, `/back\slash`, `/tail\`, `/\x20`, "/$HOME/${X}", "/a:b", "/;", "/#", "/ä", "/ lead and trail ", `/"`, `/'"'`,
	} {
		t.Run(path, func(t *testing.T) {
			if err := CheckPath(path); err != nil {
				t.Fatal(err)
			}
			path := "/root" + path
			unit := ServiceUnit(ServiceOptions{Binary: path, Config: path + "/c", DataDirs: []string{path, "/x"}})
			unpercent := func(s string) string { return strings.ReplaceAll(s, "%%", "%") }
			undollar := func(s string) string { return strings.ReplaceAll(s, "$$", "$") }
			// Lists of paths know the escaped backslash only, which is the least of all.
			for key, want := range map[string][]string{
				"ReadWritePaths": {path, "/x"}, "RequiresMountsFor": {path, "/x"}, "BindPaths": {path},
			} {
				got := values(unit, key)
				if len(got) != 1 || !slices.Equal(words(t, unpercent(got[0]), `\`), want) {
					t.Errorf("%s=%s does not mean %q", key, got, want)
				}
			}
			exec := words(t, unpercent(values(unit, "ExecStart")[0]), `\"'`)
			if len(exec) != 4 || exec[0] != path || undollar(exec[3]) != path+"/c" {
				t.Errorf("ExecStart has the words %q", exec)
			}
		})
	}
}

func TestServiceUnit_Hidden(t *testing.T) {
	for path, want := range map[string]struct{ home, bound bool }{
		"/root/quay-install": {true, true}, "/home/x/q": {true, true}, "/run/user/1000/q": {true, true}, "/root": {true, true},
		"/tmp/q": {false, true}, "/var/tmp/q": {false, true},
		"/rootless/q": {false, false}, "/homes/q": {false, false}, "/srv/home/q": {false, false}, "/run/users/q": {false, false},
	} {
		unit := ServiceUnit(ServiceOptions{Binary: "/usr/local/bin/appliance", Config: path + "/config.yaml", DataDirs: []string{path}})
		empty, protected := len(values(unit, "TemporaryFileSystem")) == 1, slices.Equal(values(unit, "ProtectHome"), []string{"yes"})
		if empty != want.home || protected == want.home {
			t.Errorf("%s: homes are empty %v, out of reach %v; want the first %v and else the second", path, empty, protected, want.home)
		}
		if got := len(values(unit, "BindPaths")) == 1; got != want.bound {
			t.Errorf("%s: bound back %v, want %v", path, got, want.bound)
		}
		if got := values(unit, "BindReadOnlyPaths"); len(got) > 0 {
			t.Errorf("%s: bound a second time: %s", path, got)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, path := range []string{"", "relative", "/a\nb", "/a\tb", "/\x00", "/\xff"} {
		if CheckPath(path) == nil {
			t.Errorf("%q passes", path)
		}
	}
}
