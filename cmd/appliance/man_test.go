package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMan has pages that a second run makes the same, with texts as the help has them.
func TestMan(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		var out, log bytes.Buffer
		if code := execute([]string{"man", dir}, stdio{in: strings.NewReader(""), out: &out, err: &log}); code != 0 {
			t.Fatalf("exit code %d: %s", code, &log)
		}
	}
	names, err := filepath.Glob(dirs[0] + "/*")
	if err != nil || len(names) < 50 {
		t.Errorf("%d pages, and %v", len(names), err)
	}
	for _, name := range names {
		first, err1 := os.ReadFile(name)
		second, err2 := os.ReadFile(filepath.Join(dirs[1], filepath.Base(name)))
		if err1 != nil || err2 != nil || !bytes.Equal(first, second) {
			t.Errorf("%s differs, or cannot be read: %v, %v", name, err1, err2)
		}
	}
	install, _ := os.ReadFile(filepath.Join(dirs[0], "appliance-install.1"))
	says(t, string(install), `.TH "APPLIANCE\-INSTALL" 1 2023-11-14 `, "\n.TP\n\\fB\\-r\\fP, \\fB\\-\\-quayRoot\\fP \\fIstring\\fP\ninstall directory",
		`HOST[:PORT] (default this host's name, port 8443)`, "\n.SH EXAMPLES\n.nf\n  sudo appliance install")
}

func TestRoff(t *testing.T) {
	if got, want := roff(".a\n'b -c\\"), `\&.a`+"\n"+`\&'b \-c\e`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
