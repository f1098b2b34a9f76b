//go:build oc

package olmcheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// oc, which must be on PATH, with the appliance's CA and a login, fills the appliance and reads it.
// What it makes is as the upstream has it.
func TestOC(t *testing.T) {
	s, dir := newSite(t), t.TempDir()
	const kubeconfig = `{"apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "x", "user": {}}],
"clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}`
	for file, text := range map[string]string{"kubeconfig": kubeconfig, "auth.json": "{}", "hello.txt": "hello\n"} {
		write(t, filepath.Join(dir, file), text)
	}
	if text, err := exec.Command("tar", "-C", dir, "-czf", filepath.Join(dir, "hello.tgz"), "hello.txt").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, text)
	}
	fill := strings.NewReplacer("TO/", s.registry+"/", "TO ", s.registry+" ", "FROM/", s.from+"/", "LIST", s.digest(t, "samples/docker-multi:v1"))
	for _, args := range []string{
		"registry login --registry=TO --auth-basic=" + user + ":" + password,
		"adm release mirror --insecure --from=FROM/openshift-release-dev/ocp-release:4.18.1-x86_64 --to=TO/ocp/release --to-release-image=TO/ocp/images:4.18.1",
		"adm release info TO/ocp/images:4.18.1",
		"image mirror --insecure FROM/samples/docker:v1=TO/one/docker:v1",
		"image mirror --insecure --filter-by-os=linux/arm64 FROM/samples/oci-multi:v1=TO/one/oci:arm64",
		"image mirror --insecure --keep-manifest-list=true FROM/samples/oci-multi:v1=TO/one/oci-multi:v1 FROM/samples/docker-multi:v1=TO/one/docker-multi:v1",
		"image mirror --keep-manifest-list=true TO/one/docker-multi@LIST=TO/two/docker-multi:copy TO/one/docker-multi@LIST=TO/two/untagged",
		"image mirror --dir=files --keep-manifest-list=true TO/one/docker-multi:v1=file://x/docker-multi:v1",
		"image mirror --from-dir=files --keep-manifest-list=true file://x/docker-multi:v1=TO/back/docker-multi:v1",
		"image info --filter-by-os=linux/arm64 TO/one/oci-multi:v1",
		"image append --from=TO/one/docker:v1 --to=TO/appended/docker:v1 hello.tgz",
		"image append --keep-manifest-list=true --from=TO/one/docker-multi:v1 --to=TO/appended/docker-multi:v1 hello.tgz",
		"image extract TO/appended/docker:v1 --file=hello.txt --confirm",
		"adm catalog mirror --insecure FROM/" + catalogName + " TO/catalog",
		"adm catalog mirror --insecure FROM/" + catalogName + " file:///local",
		"adm catalog mirror file://local/" + catalogName + " TO/carried",
	} {
		c := exec.Command("oc", strings.Fields(fill.Replace(args))...)
		c.Dir = dir
		c.Env = append(os.Environ(), "HOME="+dir, "KUBECONFIG="+dir+"/kubeconfig", "REGISTRY_AUTH_FILE="+dir+"/auth.json", "SSL_CERT_FILE="+s.ca())
		if text, err := c.CombinedOutput(); err != nil || strings.Contains(string(text), "error:") {
			t.Fatalf("oc %s: %v\n%s", args, err, text)
		}
	}
	for to, from := range map[string]string{
		"ocp/images:4.18.1":                     "openshift-release-dev/ocp-release:4.18.1-x86_64",
		"one/docker:v1":                         "samples/docker:v1",
		"one/oci-multi:v1":                      "samples/oci-multi:v1",
		"two/docker-multi:copy":                 "samples/docker-multi:v1",
		"back/docker-multi:v1":                  "samples/docker-multi:v1",
		"catalog/" + flat(catalogName):          catalogName,
		"carried/" + flat("local/"+catalogName): catalogName,
	} {
		if got, want := s.served(t, s.registry+"/"+to), s.digest(t, from); got != want {
			t.Errorf("%s is %s, and %s at the upstream", to, got, want)
		}
	}
}

// flat returns the name that oc gives to a catalog below a destination.
func flat(repository string) string { return strings.ReplaceAll(repository, "/", "-") }
