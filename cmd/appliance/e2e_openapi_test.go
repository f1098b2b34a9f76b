//go:build e2e

package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestOpenAPI makes a client of the description that a registry serves, compiles a program against it, and
// has that call the registry.
func TestOpenAPI(t *testing.T) {
	s := newSite(t)
	root, _ := moduleRoot(t)
	dir := filepath.Join(root, "testdata", "openapi")
	must(t, os.MkdirAll(filepath.Join(dir, "build"), 0o755))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.address+"/api/v1/openapi.json", nil)
	must(t, err)
	req.SetBasicAuth("pull", faultPassword)
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	document, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Status, document)
	}
	must(t, os.WriteFile(filepath.Join(dir, "build", "openapi.json"), document, 0o644))
	for _, script := range []string{"generate", "check"} {
		if code, stdout, stderr := outcome(t, exec.Command("npm", "--prefix", dir, "run", script)); code != 0 {
			t.Fatalf("npm run %s ends with %d\n%s%s", script, code, stdout, stderr)
		}
	}
	c := exec.Command("node", filepath.Join(dir, "build", "roundtrip.js"), "https://"+s.address, "admin", faultPassword)
	c.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+s.cfg.TLS.CA)
	code, stdout, stderr := outcome(t, c)
	var users []string
	if code != 0 || json.Unmarshal([]byte(stdout), &users) != nil || !slices.Contains(users, "generated") {
		t.Fatalf("the client ends with %d\n%s%s", code, stdout, stderr)
	}
}
