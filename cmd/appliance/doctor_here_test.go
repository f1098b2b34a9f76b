package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/config"
)

// findings returns what a command that looks at this appliance prints as JSON.
func (s *site) findings(t *testing.T, args ...string) (code int, all []finding.Finding) {
	t.Helper()
	code, stdout, stderr := s.run(t, append(args, "--quayRoot", s.root, "-o", "json")...)
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) == 0 {
		t.Fatalf("%q: exit code %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	return code, all
}

// unwell returns the findings of a check that are not well.
func unwell(all []finding.Finding, check string) (text string) {
	for _, f := range all {
		if f.Check == check && f.Level != finding.OK {
			text += string(f.Level) + " " + f.Subject + ": " + f.Text + " hint: " + f.Hint + "\n"
		}
	}
	return text
}

// appendTo adds lines to config.yaml of a daemon that runs, which is not told.
func (s *site) appendTo(t *testing.T, lines string) (restore func()) {
	t.Helper()
	file := config.Path(s.root)
	text, err := os.ReadFile(file)
	must(t, err)
	out := string(text)
	for line := range strings.Lines(lines) { // a key that the file has already is replaced
		key, _, _ := strings.Cut(line, ":")
		if at := strings.Index(out, "\n"+key+":"); !strings.HasPrefix(line, " ") && at >= 0 {
			end := strings.Index(out[at+1:], "\n")
			out = out[:at] + out[at+1+end:]
		}
	}
	must(t, os.WriteFile(file, []byte(out+"\n"+lines), 0o600))
	return func() { must(t, os.WriteFile(file, text, 0o600)) }
}

func TestDoctor(t *testing.T) {
	s := newSite(t)
	stdout := s.works(t, "doctor", "--quayRoot", s.root)
	contains(t, stdout, "warning  unit ", "ok       port        "+s.address+": it answers by its name, and is healthy\n",
		"ok       certificate localhost: for this name, until ", "ok       config      what runs is what config.yaml says\n",
		"ok       database ", "ok       directories ", "ok       space ", "ok       daemon ")
	if strings.Contains(stdout, "FAILED") {
		t.Errorf("what is well is told to have failed\n%s", stdout)
	}
	for _, tc := range []struct {
		name, check, want string
		spoil             func() (restore func())
	}{
		{"an edit", "config", "config.yaml has changed since the daemon was started: minFree", func() func() { return s.appendTo(t, "minFree: 2GiB\n") }},
		{"an upstream that was added", "config", "appliance upstream reload", func() func() {
			return s.appendTo(t, "upstreams:\n  - prefix: quay.io\n    url: https://quay.io\n")
		}},
		{"a file that does not exist", "files", "failed : upstreams[0].authFile of config.yaml is /nowhere/auth.json, which does not exist", func() func() {
			return s.appendTo(t, "upstreams:\n  - prefix: quay.io\n    url: https://quay.io\n    authFile: /nowhere/auth.json\n")
		}},
		{"a file that has no logins", "files", "which is not a file of logins", func() func() {
			return s.appendTo(t, "upstreams:\n  - prefix: quay.io\n    url: https://quay.io\n    authFile: "+s.file(t, "auth.json", "secret-word")+"\n")
		}},
		{"a key that each user may read", "certificate", "chmod o-rwx " + s.cfg.TLS.CAKey, func() func() {
			must(t, os.Chmod(s.cfg.TLS.CAKey, 0o644))
			return func() { must(t, os.Chmod(s.cfg.TLS.CAKey, 0o600)) }
		}},
		{"another port", "port", "failed localhost:1: nothing listens on the port", func() func() { return s.appendTo(t, "port: 1\n") }},
		{"a hostname that does not resolve", "name", "nothing.invalid does not resolve", func() func() { return s.appendTo(t, "hostname: nothing.invalid\n") }},
		{"storage that is not there", "directories", "the directory of the blobs /nowhere/blobs does not exist", func() func() { return s.appendTo(t, "storage: /nowhere/blobs\n") }},
	} {
		restore := tc.spoil()
		code, all := s.findings(t, "doctor")
		got := unwell(all, tc.check)
		if !strings.Contains(got, tc.want) || code == 0 == strings.Contains(got, "failed ") || strings.Contains(got, "secret-word") {
			t.Errorf("%s: exit code %d, %s", tc.name, code, got)
		}
		restore()
	}
}

// Each problem of config.yaml is told, not the first alone, and the daemon is not needed.
func TestDoctor_withoutDaemon(t *testing.T) {
	s := newSite(t)
	s.kill()
	code, all := s.findings(t, "doctor")
	if got := unwell(all, "daemon"); code != 1 || !strings.Contains(got, "failed ") || unwell(all, "port") == "" {
		t.Errorf("exit code %d, %s", code, got)
	}
	s.appendTo(t, "minFree: lots\nscrubb: 1\n")
	_, all = s.findings(t, "doctor")
	if got := unwell(all, "config"); strings.Count(got, "failed ") != 2 || !strings.Contains(got, "scrubb") || !strings.Contains(got, "minFree") {
		t.Errorf("config: %s", got)
	}
}

func TestDoctor_upstreamThatDoesNotAnswer(t *testing.T) {
	s := newSite(t)
	s.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "far", URL: "http://127.0.0.1:1", Freshness: config.DefaultFreshness}}
	})
	code, all := s.findings(t, "doctor")
	if got := unwell(all, "upstream"); code != 1 || !strings.Contains(got, "failed far: ") {
		t.Errorf("exit code %d, %s", code, got)
	}
	s.works(t, "offline", "on", "--quayRoot", s.root)
	if _, all = s.findings(t, "doctor"); unwell(all, "upstream") != "" {
		t.Errorf("offline, it asks all the same: %s", unwell(all, "upstream"))
	}
}

func TestConfigValidate(t *testing.T) {
	s := newSite(t)
	stdout := s.works(t, "config", "validate", "--quayRoot", s.root)
	contains(t, stdout, "ok       config ", "ok       port        "+s.address+": it is free, or this appliance's", "ok       name ", "ok       certificate ", "ok       files ")
	for _, absent := range []string{" unit ", " daemon ", " clock "} {
		if strings.Contains(stdout, absent) {
			t.Errorf("it looks at%s\n%s", absent, stdout)
		}
	}
	next := filepath.Join(s.dir, "next.yaml")
	text, err := os.ReadFile(config.Path(s.root))
	must(t, err)
	must(t, os.WriteFile(next, []byte(strings.Replace(string(text), "hostname: localhost", "hostname: nothing.invalid", 1)), 0o600))
	code, stdout, _ := s.run(t, "config", "validate", "--config", next)
	if code != 1 || !strings.Contains(stdout, "FAILED   name        nothing.invalid") || !strings.Contains(stdout, "is not for nothing.invalid") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if _, stdout, _ = s.run(t, "config", "validate", "--offline", "--config", next); strings.Contains(stdout, "resolve") || strings.Contains(stdout, " port ") {
		t.Errorf("offline, it asks the DNS\n%s", stdout)
	}
	if code, _, stderr := s.run(t, "config", "validate", "--config", filepath.Join(s.dir, "none.yaml")); code != 1 || !strings.Contains(stderr, "there is no ") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
