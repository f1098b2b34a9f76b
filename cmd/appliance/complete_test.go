package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/docs"
)

// TestComplete has each kind of word offered; :4 is no files, :16 directories alone, :0 files, and :6 no blank
// after the word.
func TestComplete(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(os.Mkdir(filepath.Join(dir, "archive"), 0o700), os.WriteFile(filepath.Join(dir, "archives.txt"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	topics := ""
	for _, topic := range docs.Topics() {
		topics += topic.Name + " "
	}
	for line, want := range map[string]string{
		"status -o ":                            "json :4",
		"version --output ":                     "json yaml :4",
		"user add ci --role ":                   "pull push admin :4",
		"user role ci ":                         "pull push admin :4",
		"user role ":                            ":4",
		"upstream add quay.io --mode ":          "cache mirrored-only off :4",
		"mirror --log-level ":                   "info debug trace error :4",
		"mirror --signature-verification ":      "best-effort strict :4",
		"docs ":                                 topics + ":4",
		"docs operate ":                         ":4",
		"offline ":                              "on off :4",
		"install --quayRoot ":                   ":16",
		"install --quayHostname ":               ":4",
		"install --sslCert ":                    ":0",
		"install --ssh-key ":                    ":0",
		"mirror -c ":                            ":0",
		"mirror --from ":                        "file:// :6",
		"mirror -c x file://" + dir + "/arch":   "file://" + dir + "/archive/ :6",
		"mirror -c x ":                          "docker:// file:// :6",
		"delete ":                               "docker:// :6",
		"cluster-config --dir x --install-conf": "--install-config :4",
		"backup ":                               ":0",
		"gc ":                                   ":4",
	} {
		var out, log bytes.Buffer
		execute(append([]string{"__complete"}, strings.Split(line, " ")...), stdio{in: strings.NewReader(""), out: &out, err: &log})
		var words []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			words = append(words, word)
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("appliance %s completes to %s, want %s", line, got, want)
		}
	}
}
