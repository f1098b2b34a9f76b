package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A command about existing content creates no database, and gives no green answer,
// where there is none.
func TestExisting_noDatabase(t *testing.T) {
	f := newFaulty(t, "")
	for _, args := range [][]string{{"verify"}, {"verify", "-o", "json"}, {"scrub"}, {"backup", filepath.Join(t.TempDir(), "backup")}} {
		code, stdout, stderr := outcome(t, f.command(args...))
		if code != 1 || stdout != "" || !strings.Contains(stderr, "there is no database at "+f.cfg.Database) {
			t.Errorf("%v: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
	if _, err := os.Stat(f.cfg.Database); err == nil {
		t.Error("a database was made")
	}
}

// --config and --quayRoot may both be given if they mean the same.
func TestLocate_twoPlaces(t *testing.T) {
	f, other := newFaulty(t, ""), newFaulty(t, "")
	f.start(t)
	f.stop(t)
	own := filepath.Join(f.root, "quay-config", "config.yaml")
	for config, want := range map[string]int{own: 0, filepath.Join(other.root, "quay-config", "config.yaml"): 1} {
		code, _, stderr := outcome(t, f.command("verify", "--config", config))
		if code != want || want == 1 && !strings.Contains(stderr, "give one of the two") {
			t.Errorf("%s: exit code %d\n%s", config, code, stderr)
		}
	}
}
