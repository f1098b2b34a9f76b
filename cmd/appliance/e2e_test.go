//go:build e2e

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

const (
	registryAddress = boxHost + ":8443"
	installed       = "/usr/local/bin/appliance"
)

// installLine is what users' scripts look for.
var installLine = regexp.MustCompile(`is available at https://(\S+) with credentials \((\S+), (\S+)\)`)

// TestInstalled is the life of one appliance, from install to uninstall, seen by the clients that
// people use. Its parts follow each other on one host, as they would in life.
func TestInstalled(t *testing.T) {
	t.Parallel()
	b := newBox(t, "installed")
	before := b.files(t)
	var password string
	images := map[string]string{} // name to digest
	step := func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			t.FailNow()
		}
	}

	step("install", func(t *testing.T) {
		out := b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost)
		m := installLine.FindStringSubmatch(out)
		if m == nil || m[1] != registryAddress || m[2] != "init" {
			t.Fatalf("install ends with:\n%s", out)
		}
		password = m[3]
		b.trust(t)
		b.healthy(t)
		b.secretsStaySecret(t, password)
		b.belongsToRoot(t)
	})
	step("the directory of the CA does for every client", func(t *testing.T) { b.trustsDirectory(t) })
	step("a second install changes nothing", func(t *testing.T) {
		pid := b.inside(t, "systemctl", "show", "-p", "MainPID", "appliance.service")
		out := b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost)
		if !strings.Contains(out, "nothing had to be changed") {
			t.Errorf("it says:\n%s", out)
		}
		if now := b.inside(t, "systemctl", "show", "-p", "MainPID", "appliance.service"); now != pid {
			t.Errorf("the service was restarted: %s became %s", pid, now)
		}
		b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost, "--initPassword", password)
		b.fails(t, []string{"another password"}, "exec", "/root/appliance", "install", "--quayHostname", boxHost, "--initPassword", "quite-another")
	})
	step("an administrator gets answers", func(t *testing.T) { b.answersAdministrator(t, password) })
	step("an install of an earlier version is migrated", func(t *testing.T) {
		b.migrates(t)
		b.secretsStaySecret(t, password)
	})
	step("a wrong password and an unknown CA are refused", func(t *testing.T) {
		login := []string{"login", "-u", "init", "--cert-dir", b.certs()}
		b.fails(t, []string{"invalid username/password"}, b.podman(append(login, "-p", "not-the-password", registryAddress)...)...)
		b.fails(t, []string{"x509"}, b.podman("login", "-u", "init", "-p", password, registryAddress)...)
	})
	step("clients log in, push and pull", func(t *testing.T) {
		b.clientsWork(t, password, images, "first/day")
		images["two/deep/er/deleted"] = b.pushIndex(t, "two/deep/er/deleted:v1")
	})
	step("a pull user is refused a push", func(t *testing.T) { b.refusesPull(t) })
	step("what is open is pulled without a login", func(t *testing.T) { b.pullsAnonymously(t) })
	step("mirror", func(t *testing.T) { b.mirrorsSample(t) })
	step("mirror by a schedule", func(t *testing.T) { b.mirrorsBySchedule(t) })
	step("pull through", func(t *testing.T) { b.pullsThrough(t) })
	step("gc frees what was deleted and leaves the rest", func(t *testing.T) {
		b.collects(t, "two/deep/er/deleted:v1")
		delete(images, "two/deep/er/deleted")
		b.pullsAll(t, images)
		b.pullsEverything(t)
	})
	step("a backup brings everything back", func(t *testing.T) { b.backsUp(t, images) })
	step("after a reboot", func(t *testing.T) {
		b.must(t, "reboot")
		b.healthy(t)
		b.clientsWork(t, password, images, "after/reboot")
	})
	step("after a power cut", func(t *testing.T) {
		images["pushed/before/the/cut"] = b.pushIndex(t, "pushed/before/the/cut:v1")
		b.must(t, "kill")
		b.must(t, "up")
		b.healthy(t)
		b.clientsWork(t, password, images, "after/cut")
		b.pullsEverything(t)
	})
	step("commands find the store when the service is down", func(t *testing.T) {
		b.inside(t, "systemctl", "stop", "appliance.socket", "appliance.service")
		out := b.inside(t, installed, "user", "list")
		if !strings.Contains(out, "puller") {
			t.Errorf("user list says:\n%s", out)
		}
		b.inside(t, installed, "gc")
		if foreign := b.inside(t, "find", "/root/quay-install/quay-storage", "/root/quay-install/sqlite-storage", "!", "-user", "appliance"); foreign != "" {
			t.Errorf("files that the service cannot open:\n%s", foreign)
		}
		b.answersWhenDown(t)
		b.inside(t, "systemctl", "start", "appliance.service")
		b.healthy(t)
	})
	step("this host trusts it", func(t *testing.T) { b.inside(t, installed, "trust") })
	step("the certificate and the CA are changed", func(t *testing.T) { b.changesCertificates(t) })
	step("uninstall leaves nothing behind", func(t *testing.T) {
		b.fails(t, []string{"--autoApprove"}, "exec", installed, "uninstall")
		b.inside(t, installed, "uninstall", "--autoApprove")
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		b.fails(t, nil, "exec", "getent", "passwd", "appliance")
		b.fails(t, nil, "exec", "systemctl", "cat", "appliance.service")
	})
}

// backsUp makes backups of every kind in places that the service cannot see, and brings
// each back after a loss.
func (b *box) backsUp(t *testing.T, images map[string]string) {
	t.Helper()
	const root = "/root/quay-install"
	stop := func() { b.inside(t, "systemctl", "stop", "appliance.socket", "appliance.service") }
	start := func() { // more often than systemd lets a unit start
		b.inside(t, "systemctl", "reset-failed", "appliance.socket", "appliance.service")
		b.inside(t, "systemctl", "start", "appliance.service")
		b.healthy(t)
	}
	stop()
	offline := "/root/offline.tar"
	b.inside(t, installed, "backup", offline)
	start()
	for _, to := range []string{"/srv/made/for/it", root + "/backup", "/run/another-disk", "/run/another-disk.tar", offline} {
		if to != offline {
			b.inside(t, installed, "backup", to)
		}
		if open := b.inside(t, "find", to, "-not", "-type", "l", "-perm", "/077", "!", "-user", "appliance"); open != "" {
			t.Errorf("others may read:\n%s", open)
		}
		stop()
		b.inside(t, "sh", "-c", "rm -r "+root+"/sqlite-storage/appliance.db* "+root+"/quay-storage/sha256")
		out := b.inside(t, installed, "restore", to)
		if !strings.Contains(out, "restored ") || !strings.Contains(out, "0 were there") {
			t.Errorf("restore says:\n%s", out)
		}
		if foreign := b.inside(t, "find", root+"/quay-storage", root+"/sqlite-storage", "!", "-user", "appliance"); foreign != "" {
			t.Errorf("files that the service cannot open:\n%s", foreign)
		}
		start()
		b.inside(t, installed, "verify", "--content")
		b.pullsAll(t, images)
		b.inside(t, "rm", "-r", to)
	}
	b.inside(t, "rm", "-r", "/srv/made")
}

// files lists the host's files, without what the system itself goes on writing.
func (b *box) files(t *testing.T) []string {
	t.Helper()
	return strings.Fields(b.inside(t, "find", "/", "-xdev",
		"(", "-path", "/proc", "-o", "-path", "/sys", "-o", "-path", "/run", "-o", "-path", "/dev", "-o", "-path", "/tmp",
		"-o", "-path", "/var/tmp", "-o", "-path", "/var/log/journal", "-o", "-path", "/var/lib/systemd", "-o", "-path", "/var/cache",
		"-o", "-path", "/var/lib/private", "-o", "-path", "/var/backups", ")", "-prune", "-o", "-print"))
}

// without is what now has and before had not. Copies that shadow's tools keep of
// their files are theirs.
func without(now, before []string) []string {
	return slices.DeleteFunc(slices.Clone(now), func(f string) bool {
		return slices.Contains(before, f) || strings.HasPrefix(f, "/etc/") && strings.HasSuffix(f, "-")
	})
}

// secretsStaySecret looks for the password where it must not be, and at the modes of
// what holds keys.
func (b *box) secretsStaySecret(t *testing.T, password string) {
	t.Helper()
	if log := b.inside(t, "journalctl", "--no-pager"); strings.Contains(log, password) {
		t.Error("the journal has the password")
	}
	b.fails(t, nil, "exec", "grep", "-rqF", password, "/root/quay-install", "/etc")
	modes := b.inside(t, "find", "/root/quay-install", "-type", "f", "(", "-name", "*.key", "-o", "-name", "*.db*", "-o", "-name", "pull-secret.json", ")", "-perm", "/077")
	if modes != "" {
		t.Errorf("others may read:\n%s", modes)
	}
	b.fails(t, nil, "exec", "su", "tester", "-c", "cat /root/quay-install/quay-config/config.yaml")
}

// clientsWork logs in, pushes with skopeo and with podman under the name given, and pulls that and
// all that was pushed before, by tag and by digest.
func (b *box) clientsWork(t *testing.T, password string, images map[string]string, name string) {
	t.Helper()
	b.must(t, b.podman("login", "--cert-dir", b.certs(), "-u", "init", "-p", password, b.address)...)
	images[name] = b.pushIndex(t, name+":v1")
	b.pullsAll(t, images)
	source, target := b.address+"/"+name+":v1", b.address+"/podman/"+name+":v1"
	b.must(t, b.podman("pull", "-q", "--cert-dir", b.certs(), "docker://"+source)...)
	b.must(t, b.podman("tag", source, target)...)
	b.must(t, b.podman("push", "-q", "--cert-dir", b.certs(), target)...)
	b.must(t, b.podman("rmi", "-f", target, source)...)
	b.must(t, b.podman("pull", "-q", "--cert-dir", b.certs(), "docker://"+target)...)
}

// pushIndex makes an index of two architectures, has skopeo push it whole, and returns the digest
// of what skopeo, which writes indexes in its own way, made of it.
func (b *box) pushIndex(t *testing.T, ref string) string {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: ociImage(t, arch), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	b.client(t, "skopeo", "copy", "-q", "--all", "--dest-cert-dir", b.certs(), "oci:"+dir, "docker://"+b.address+"/"+ref)
	raw := b.client(t, "skopeo", "inspect", "--raw", "--cert-dir", b.certs(), "docker://"+b.address+"/"+ref)
	var pushed v1.IndexManifest
	if err := json.Unmarshal([]byte(raw), &pushed); err != nil || len(pushed.Manifests) != 2 {
		t.Fatalf("an index of two architectures became, %v:\n%s", err, raw)
	}
	return digest.FromString(raw).String()
}

// ociImage has random layers, and OCI media types throughout, so that no client has
// a reason to convert it.
func ociImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 3 {
		layer, err := random.Layer(64<<10, types.OCILayer)
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", arch
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// pullsAll pulls each index by tag and by digest, and compares what arrived.
func (b *box) pullsAll(t *testing.T, images map[string]string) {
	t.Helper()
	for name, want := range images {
		for _, ref := range []string{name + ":v1", name + "@" + want} {
			dir := t.TempDir()
			b.client(t, "skopeo", "copy", "-q", "--all", "--src-cert-dir", b.certs(), "docker://"+b.address+"/"+ref, "dir:"+dir)
			manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
			if got := digest.FromBytes(manifest).String(); err != nil || got != want {
				t.Errorf("%s arrived as %s, %v; it was pushed as %s", ref, got, err, want)
			}
		}
	}
}

// pullsEverything pulls every tag of every repository.
func (b *box) pullsEverything(t *testing.T) {
	t.Helper()
	var catalog struct{ Repositories []string }
	b.get(t, "/v2/_catalog?n=1000", &catalog)
	if len(catalog.Repositories) == 0 {
		t.Error("the catalog is empty")
	}
	for _, repo := range catalog.Repositories {
		var list struct{ Tags []string }
		b.get(t, "/v2/"+repo+"/tags/list", &list)
		for _, tag := range list.Tags {
			b.client(t, "skopeo", "copy", "-q", "--all", "--src-cert-dir", b.certs(), "docker://"+registryAddress+"/"+repo+":"+tag, "dir:"+t.TempDir())
		}
	}
}

func (b *box) get(t *testing.T, path string, into any) {
	t.Helper()
	out := b.client(t, "curl", "-fsS", "--cacert", filepath.Join(b.certs(), "ca.crt"), "-K", b.curlLogin(t), "https://"+registryAddress+path)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
}

// curlLogin writes the login that podman stored as a configuration of curl.
func (b *box) curlLogin(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.home, "auth.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Auths map[string]struct{ Auth string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.home, "curlrc")
	line := fmt.Sprintf("header = \"Authorization: Basic %s\"\n", file.Auths[registryAddress].Auth)
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// refusesPull uses the secret that install leaves for a cluster's nodes.
func (b *box) refusesPull(t *testing.T) {
	t.Helper()
	secret := filepath.Join(b.home, "pull-secret.json")
	b.must(t, "pull", "/root/quay-install/quay-config/pull-secret.json", secret)
	b.client(t, "skopeo", "inspect", "--raw", "--authfile", secret, "--cert-dir", b.certs(), "docker://"+registryAddress+"/first/day:v1")
	b.fails(t, []string{"denied"}, "outside", "skopeo", "copy", "--authfile", secret,
		"--src-cert-dir", b.certs(), "--dest-cert-dir", b.certs(),
		"docker://"+registryAddress+"/first/day:v1", "docker://"+registryAddress+"/first/day:v2")
}

// trustsDirectory has clients trust what lies in the directory of the CA, as scripts
// around mirror-registry do.
func (b *box) trustsDirectory(t *testing.T) {
	t.Helper()
	const root = "/root/quay-install/quay-rootCA"
	dir := t.TempDir()
	for _, name := range strings.Fields(b.inside(t, "ls", root)) {
		b.must(t, "pull", root+"/"+name, filepath.Join(dir, name))
	}
	health := "https://" + registryAddress + "/health/instance"
	only := []string{"env", "-u", "CURL_CA_BUNDLE", "-u", "SSL_CERT_FILE", "SSL_CERT_DIR=" + dir}
	b.client(t, append(only, "curl", "-fsS", health)...)
	b.client(t, "curl", "-fsS", "--capath", dir, health)
	b.client(t, "openssl", "verify", "-CApath", dir, "-no-CAfile", "-no-CAstore", filepath.Join(dir, "rootCA.pem"))
	for _, client := range [][]string{{"--cert-dir", dir}, {}} {
		args := slices.Concat([]string{"outside"}, only, []string{"skopeo", "list-tags"}, client)
		b.fails(t, []string{"unauthorized"}, append(args, "--no-creds", "docker://"+registryAddress+"/x")...)
	}
}

// pullsAnonymously opens a part of the registry: podman and skopeo pull it without a login and with
// one, and nothing else without one.
func (b *box) pullsAnonymously(t *testing.T) {
	t.Helper()
	const conf = "/root/quay-install/quay-config/config.yaml"
	b.inside(t, "sed", "-i", "/^anonymousPull:/d", conf)
	b.inside(t, "sh", "-c", "printf 'anonymousPull: [first/*]\\n' >>"+conf)
	b.inside(t, "systemctl", "restart", "appliance.service")
	b.healthy(t)
	none := filepath.Join(b.home, "none.json")
	if err := os.WriteFile(none, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	open, shut := registryAddress+"/first/day:v1", registryAddress+"/podman/first/day:v1"
	for _, login := range []string{none, filepath.Join(b.home, "auth.json")} {
		_, _ = b.run(b.podman("rmi", "-f", open)...) // it may not be there
		b.must(t, b.podman("pull", "-q", "--authfile", login, "--cert-dir", b.certs(), "docker://"+open)...)
		b.client(t, "skopeo", "copy", "-q", "--all", "--authfile", login, "--src-cert-dir", b.certs(), "docker://"+open, "dir:"+t.TempDir())
	}
	b.fails(t, nil, b.podman("pull", "-q", "--authfile", none, "--cert-dir", b.certs(), "docker://"+shut)...)
	b.fails(t, nil, "outside", "skopeo", "inspect", "--raw", "--authfile", none, "--cert-dir", b.certs(), "docker://"+shut)
	b.fails(t, nil, "outside", "skopeo", "copy", "-q", "--src-authfile", none, "--dest-authfile", none, "--src-cert-dir", b.certs(), "--dest-cert-dir", b.certs(),
		"docker://"+open, "docker://"+registryAddress+"/first/day:v2")
}

// mirrorsSample fills the registry from the sample upstream over the network, as its administrator,
// and pulls a component of the release by digest.
func (b *box) mirrorsSample(t *testing.T) {
	t.Helper()
	upstream, stop := b.sampleUpstream(t)
	defer stop()
	config := filepath.Join(b.home, "imageset.yaml")
	text := `kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  platform:
    channels:
    - name: stable-4.18
      minVersion: 4.18.1
      maxVersion: 4.18.2
  additionalImages:
  - name: ` + upstream + `/samples/oci-multi:v1
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	workspace := filepath.Join(b.home, "workspace")
	mirror := []string{
		"outside", "env", "UPDATE_URL_OVERRIDE=http://" + upstream + "/api/upgrades_info/v1/graph",
		"OCP_SIGNATURE_URL=http://" + upstream + "/signatures/openshift/release/", "OCP_SIGNATURE_VERIFICATION_PK=" + b.releaseKey(),
		filepath.Join(b.bin, "appliance"), "mirror", "-c", config, "docker://" + registryAddress,
		"--workspace", "file://" + workspace, "--src-tls-verify=false", "--dest-cert-dir", b.certs(),
	}
	if out := b.must(t, append(mirror, "--dry-run")...); !strings.Contains(out, "mapping.txt") {
		t.Errorf("a dry run says:\n%s", out)
	}
	b.must(t, mirror...)
	if out := b.must(t, mirror...); !strings.Contains(out, "fetched 0 B") {
		t.Errorf("a second run fetched again:\n%s", out)
	}
	for _, name := range []string{"idms-oc-mirror.yaml", "itms-oc-mirror.yaml", "signature-configmap.yaml"} {
		if _, err := os.Stat(filepath.Join(workspace, "working-dir", "cluster-resources", name)); err != nil {
			t.Error(err)
		}
	}
	stop()
	b.fails(t, []string{upstream, "connection refused", "hint:"}, mirror...)
	var list struct{ Tags []string }
	b.get(t, "/v2/openshift/release/tags/list", &list)
	i := slices.IndexFunc(list.Tags, func(tag string) bool { return strings.HasPrefix(tag, "4.18.2-x86_64-") })
	if i < 0 {
		t.Fatalf("no component of 4.18.2 among %v", list.Tags)
	}
	component := strings.TrimSpace(b.client(t, "skopeo", "inspect", "--format", "{{.Digest}}", "--cert-dir", b.certs(),
		"docker://"+registryAddress+"/openshift/release:"+list.Tags[i]))
	b.must(t, b.podman("pull", "-q", "--cert-dir", b.certs(), "docker://"+registryAddress+"/openshift/release@"+component)...)
}

// pullsThrough maps the upstream to a prefix, pulls, takes the upstream away and pulls again.
func (b *box) pullsThrough(t *testing.T) {
	t.Helper()
	upstream, stop := b.sampleUpstream(t)
	const conf = "/root/quay-install/quay-config/config.yaml"
	b.inside(t, "sed", "-i", "/^upstreams:/d", conf)
	b.inside(t, "sh", "-c", fmt.Sprintf("printf 'upstreams:\\n- prefix: sample\\n  url: http://%s\\n  freshness: 1s\\n' >>%s", upstream, conf))
	b.inside(t, "systemctl", "restart", "appliance.service")
	b.healthy(t)
	image := "docker://" + registryAddress + "/sample/samples/oci-multi:v1"
	pull := func() { // --all: every architecture, as a mirror has it
		b.client(t, "skopeo", "copy", "-q", "--all", "--src-cert-dir", b.certs(), image, "dir:"+t.TempDir())
	}
	pull()
	stop()
	pull()
	b.fails(t, nil, "outside", "skopeo", "inspect", "--raw", "--cert-dir", b.certs(), "docker://"+registryAddress+"/sample/samples/never-pulled:v1")
}

// collects deletes an image and expects its bytes to be gone from the disk.
func (b *box) collects(t *testing.T, ref string) {
	t.Helper()
	used := func() (n int) {
		if _, err := fmt.Sscan(b.inside(t, "du", "-sb", "/root/quay-install/quay-storage"), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := used()
	b.client(t, "skopeo", "delete", "--cert-dir", b.certs(), "docker://"+registryAddress+"/"+ref)
	type result struct{ Blobs, Bytes int }
	collect := func(args ...string) (r result) {
		out := b.inside(t, append([]string{installed, "gc", "--grace-period", "0s", "-o", "json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return r
	}
	planned := collect("--dry-run")
	if now := used(); now != before {
		t.Errorf("a dry run changed the storage from %d to %d bytes", before, now)
	}
	freed := collect()
	if freed != planned {
		t.Errorf("freed %+v, and the dry run said %+v", freed, planned)
	}
	if after := used(); freed.Bytes <= 2*3*64<<10 || before-after < freed.Bytes {
		t.Errorf("the storage went from %d to %d bytes, gc says %+v", before, after, freed)
	}
}
