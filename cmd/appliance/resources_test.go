package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestMirrorResources_writes(t *testing.T) {
	s := newSite(t)
	there := []string{"mirror", "resources", "docker://" + s.address, "--dest-creds", "pull:" + faultPassword}
	if out := s.works(t, there...); !strings.Contains(out, "no cluster resources") {
		t.Errorf("of an empty registry: %s", out)
	}
	s.mirror(t, s.set(t, "a.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n"))
	s.mirror(t, s.set(t, "b.yaml", "  additionalImages:\n  - name: HOST/samples/oci:v1\n    targetRepo: other/name\n"))

	const itms = "itms-oc-mirror.yaml"
	out := filepath.Join(s.dir, "out")
	must(t, os.MkdirAll(out, 0o755))
	must(t, os.WriteFile(filepath.Join(out, "cs-old.yaml"), []byte("metadata:\n  annotations:\n    createdBy: appliance\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(out, "mine.yaml"), []byte("kind: Namespace\n"), 0o600))
	if said := s.works(t, append(there, "-o", out)...); !strings.Contains(said, itms) || !strings.Contains(said, "removed") {
		t.Errorf("it says %s", said)
	}
	text, err := os.ReadFile(filepath.Join(out, itms))
	must(t, err)
	for _, want := range []string{"- " + s.address + "/samples\n", "- " + s.address + "/other/name\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	entries, err := os.ReadDir(out)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("the directory has %v", entries)
	}
	if stream := s.works(t, append(there, "-o", "-")...); stream != string(text) {
		t.Errorf("the stream is\n%s", stream)
	}
	var all []api.Resource
	must(t, json.Unmarshal([]byte(s.works(t, "mirror", "resources", "--quayRoot", s.root, "-o", "json")), &all))
	if len(all) != 1 || all[0].Data != string(text) {
		t.Errorf("on its host: %+v", all)
	}
	code, _, stderr := s.run(t, "mirror", "resources", "docker://"+s.address, "--dest-creds", "pull:wrong-password")
	if code == 0 || !strings.Contains(stderr, "log in") {
		t.Errorf("a wrong login: %d %s", code, stderr)
	}
	s.stop(t)
	must(t, json.Unmarshal([]byte(s.works(t, "mirror", "resources", "--quayRoot", s.root, "-o", "json")), &all))
	if len(all) != 1 || all[0].Data != string(text) {
		t.Errorf("without a daemon: %+v", all)
	}
}

// Two workspaces and the appliance have one name for a catalog.
func TestMirrorResources_namesOfCatalogs(t *testing.T) {
	s := newSite(t)
	for _, of := range []string{"y", "a"} {
		file := s.set(t, of+".yaml", "  operators: [{catalog: HOST/redhat/redhat-operator-index:v4.18, targetCatalog: "+of+"/my-cat, packages: [{name: sample-logging}]}]\n")
		out := s.works(t, "mirror", "-c", file, "docker://"+s.address, "--workspace", "file://"+s.dir+"/"+of, "--src-tls-verify=false", "--dest-creds", "admin:"+faultPassword)
		if warns := strings.Contains(out, "a/my-cat:v4.18 gets the CatalogSource cs-my-cat-v4-18-"); warns != (of == "a") {
			t.Errorf("%s: %s", of, out)
		}
	}
	var all []api.Resource
	must(t, json.Unmarshal([]byte(s.works(t, "mirror", "resources", "--quayRoot", s.root, "-o", "json")), &all))
	compared := 0
	for _, f := range all {
		for _, of := range []string{"y", "a"} {
			if !strings.HasPrefix(f.Name, "cs-") || !strings.Contains(f.Data, s.address+"/"+of+"/my-cat:") {
				continue
			}
			compared++
			text, err := os.ReadFile(filepath.Join(s.dir, of, "working-dir/cluster-resources", f.Name))
			if err != nil || !strings.Contains(string(text), s.address+"/"+of+"/my-cat:") || (f.Name == "cs-my-cat-v4-18.yaml") != (of == "y") {
				t.Errorf("of %s the appliance serves %s, and the workspace has %s, %v", of, f.Name, text, err)
			}
		}
	}
	if compared != 2 {
		t.Errorf("the appliance serves %+v", all)
	}
}
