package registry_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/config"
)

func TestConsole_cluster(t *testing.T) {
	dir := t.TempDir()
	set := config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "work"), Interval: time.Hour, Prefix: "far"}
	r := start(t, func(c *config.Config) { c.Sync = []config.Sync{set} })
	s := r.logIn(t, "pull")
	s.wants(t, "/cluster", "Nothing is mirrored yet", "appliance cluster-config docker://"+r.cfg.Address()+" --pull-secret pull-secret.json --dir cluster")
	writeSet(t, set.ImageSet, newSample(t), "samples/docker:v1")
	r.mirrored(t, set, true)
	const itms = "itms-oc-mirror.yaml"
	text := r.resources(t, "pull", itms)
	s.wants(t, "/cluster", itms, host+"/far/samples", "oc apply -f .", "/cluster/files/"+itms)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/cluster/files/"+itms, nil)
	must(t, err)
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	if string(data) != text || text == "" || resp.Header.Get("Content-Disposition") != "attachment; filename="+itms {
		t.Errorf("a download: %v\n%s", resp.Header, data)
	}
	if code, _, _ := s.get(t, "/cluster/files/none.yaml"); code != http.StatusNotFound {
		t.Errorf("a file that there is not: %d", code)
	}
	if body := r.limited(t, "other", "pull", "elsewhere/*").wants(t, "/cluster", "Nothing is mirrored yet"); strings.Contains(body, "far/samples") {
		t.Error("a user learns of what it may not pull")
	}

	s.wants(t, "/cluster?version=4.20.3&arch=aarch64", "--dir cluster --version 4.20.3 --arch aarch64<")
	if body := s.wants(t, "/cluster?version=4.20%3Breboot&arch=%24%28reboot%29", "That is no version of OpenShift."); strings.Contains(body, "--version") || strings.Contains(body, "--arch") {
		t.Error("what is no version becomes part of the command")
	}
}

func TestConsole_documentation(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "pull")
	s.wants(t, "/documentation?q=PULL+through", `<a href="/documentation/operate.md#pull-through">Pull through</a>`, "Sections with these words")
	s.wants(t, "/documentation/operate.md", `href="#pull-through"`, `id="pull-through"`, "On this page")
	s.wants(t, "/documentation?q=zyzzyva", "Nothing has all of these words")
	if body := s.wants(t, "/documentation?q=%3Cscript%3E", "&lt;script&gt;"); strings.Contains(body, "<script>") {
		t.Error("a query is part of the page")
	}
}
