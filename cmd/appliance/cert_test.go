package main_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// A certificate is shown and renewed while the daemon serves, and an own one is not replaced by
// halves.
func TestCert(t *testing.T) {
	f, _ := filled(t)
	f.start(t)
	show := func() (serial string) {
		t.Helper()
		_, stdout, stderr := outcome(t, f.command("cert", "show", "-o", "json"))
		var c struct {
			Serial   string `json:"serial"`
			DaysLeft int    `json:"daysLeft"`
			Renews   bool   `json:"renews"`
		}
		if err := json.Unmarshal([]byte(stdout), &c); err != nil || c.Serial == "" || c.DaysLeft < 300 || !c.Renews {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		return c.Serial
	}
	before := show()
	code, stdout, stderr := outcome(t, f.command("cert", "renew"))
	for _, want := range []string{"names ", "renewal   by itself", "CA file ", " days left)", f.cfg.TLS.Certificate} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%d, %q is missing in\n%s%s", code, want, stdout, stderr)
		}
	}
	if show() == before {
		t.Error("the certificate is the old one")
	}
	for want, args := range map[string][]string{
		"--sslCert and --sslKey are missing": {"cert", "replace"},
		"--finish and --abort are given":     {"cert", "rotate-ca", "--finish", "--abort"},
	} {
		if code, _, stderr := outcome(t, f.command(args...)); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: %d %s", args, code, stderr)
		}
	}
	f.kill()
	if code, _, stderr := outcome(t, f.command("cert", "show")); code != 1 || !strings.Contains(stderr, "hint: ") {
		t.Errorf("without a daemon: %d %s", code, stderr)
	}
}
