package main_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

const nodePassword = "the-password-of-nodes"

// newClusterSite is an appliance with two releases and an image, and the pull secret that an
// install leaves.
func newClusterSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	s.mirror(t, s.set(t, "set.yaml", "  platform:\n    architectures: [amd64, arm64, multi]\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.2}]\n"+
		"  additionalImages: [{name: HOST/samples/docker:v1}]\n"), "--ignore-release-signature")
	_, err := s.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: nodePassword})
	must(t, err)
	s.secret(t, filepath.Join(filepath.Dir(config.Path(s.root)), "pull-secret.json"), "puller", nodePassword)
	return s
}

func (s *site) secret(t *testing.T, file, user, password string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(s.login(user, password)), 0o600))
}

// login returns a file of podman login.
func (s *site) login(user, password string) string {
	return `{"auths":{"` + s.address + `":{"auth":"` + cluster.NewAuth(user, password) + `"}}}`
}

// answered is what the command prints with -o json.
type answered struct {
	Dir, Version, Release, MovedAside string
	Warnings                          []string
	Written                           bool
	Files                             []struct {
		Name, Mode string
		Secret     bool
	}
}

// config runs the command.
func (s *site) config(t *testing.T, args ...string) (a answered) {
	t.Helper()
	out := s.works(t, append([]string{"cluster-config", "-o", "json"}, args...)...)
	if strings.Contains(out, nodePassword) || strings.Contains(out, cluster.NewAuth("puller", nodePassword)) {
		t.Errorf("it shows a secret:\n%s", out)
	}
	must(t, json.Unmarshal([]byte(out), &a))
	return a
}

// installSources reads the sources and the pull secret of an install-config.yaml.
func installSources(t *testing.T, dir string) (sources map[string]string, secret string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "install-config.yaml"))
	must(t, err)
	var c struct {
		PullSecret string `yaml:"pullSecret"`
		Sources    []struct {
			Source  string
			Mirrors []string
		} `yaml:"imageDigestSources"`
	}
	must(t, yaml.Unmarshal(text, &c))
	sources = map[string]string{}
	for _, s := range c.Sources {
		sources[s.Source] = strings.Join(s.Mirrors, " ")
	}
	return sources, c.PullSecret
}

// A directory of the appliance's own host, and the same from elsewhere with the login of a user that
// can only pull.
func TestClusterConfig_hereAndElsewhere(t *testing.T) {
	s := newClusterSite(t)
	dir := filepath.Join(s.dir, "here")
	a := s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	if a.Release != "4.18.2-x86_64" || a.Version != "4.18" || !a.Written {
		t.Errorf("it answers %+v", a)
	}
	for _, f := range a.Files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil || (info.Mode().Perm() == 0o600) != f.Secret || f.Secret != (f.Name == "install-config.yaml" || f.Name == "pull-secret.json") {
			t.Errorf("%+v is %v, %v", f, info, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the directory is %v, %v", info, err)
	}
	sources, secret := installSources(t, dir)
	if sources[s.source+"/"+sample.ComponentRepository] != s.address+"/openshift/release" || sources[s.source+"/"+sample.ReleaseRepository] != s.address+"/openshift/release-images" {
		t.Errorf("the sources are %v", sources)
	}
	if !strings.Contains(secret, `"`+cluster.NewAuth("puller", nodePassword)+`"`) {
		t.Errorf("the pull secret is %s", secret)
	}
	s.installs(t, dir, "amd64")

	there := filepath.Join(s.dir, "there")
	args := []string{"docker://" + s.address, "--dest-creds", "puller:" + nodePassword, "--pull-secret", filepath.Join(dir, "pull-secret.json"), "--arch", "x86_64"}
	if b := s.config(t, append(args, "--dir", there)...); b.Release != a.Release {
		t.Errorf("from elsewhere it answers %+v", b)
	}
	diff, err := exec.Command("diff", "-r", "-I", "^# CA", dir, there).CombinedOutput()
	if err != nil {
		t.Errorf("from elsewhere it differs:\n%s", diff)
	}
	// openshift-install gets the name that oc is given: of several architectures the list's.
	args[slices.Index(args, "x86_64")] = "multi"
	s.config(t, append(args, "--dir", there)...)
	s.installs(t, there, "multi")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "multi")
	s.installs(t, dir, "multi")
}

// installs checks that the script of a directory installs 4.18.2 by the digest that the upstream
// has.
func (s *site) installs(t *testing.T, dir, arch string) {
	t.Helper()
	content, err := sample.New(s.source)
	must(t, err)
	release, _ := content.Release("4.18.2", arch)
	script, err := os.ReadFile(filepath.Join(dir, "install.sh"))
	must(t, err)
	if want := s.address + "/openshift/release-images@" + release.Digest.String(); !strings.Contains(string(script), "'"+want+"'") {
		t.Errorf("the script of %s does not install %s", dir, want)
	}
}

func TestClusterConfig_refuses(t *testing.T) {
	s := newClusterSite(t)
	dir := filepath.Join(s.dir, "out")
	here := []string{"--quayRoot", s.root}
	there := []string{"docker://" + s.address, "--dest-creds", "puller:" + nodePassword}
	to := func(args []string, more ...string) []string { return slices.Concat(args, []string{"--dir", dir}, more) }
	multi := func(more ...string) []string { return to(here, append(more, "--arch", "multi")...) }
	_, port, _ := strings.Cut(s.address, ":")
	otherName := to([]string{"docker://127.0.0.1:" + port, "--dest-creds", "puller:" + nodePassword}, "--dest-tls-verify=false",
		"--ca", s.cfg.TLS.CA, "--pull-secret", s.secretFor(t, "127.0.0.1:"+port))
	for want, args := range map[string][]string{
		"--dir is missing": here,
		"4.18.2 is there for several architectures: aarch64, multi, x86_64":             to(here),
		"OpenShift 4.20 was not mirrored into this appliance; there is: 4.18.1-aarch64": to(here, "--version", "4.20"),
		"no login for the nodes at " + s.address:                                        to(there),
		"no login for the nodes at " + s.address + ": nodes get that of":                to(there, "--authfile", s.file(t, "admin.json", s.login("admin", faultPassword))),
		"there is no login of user ci for " + s.address + "; podman login -u ci":        to(here, "--user", "ci", "--authfile", s.file(t, "admin.json", s.login("admin", faultPassword))),
		"it has no login for it":                                               to(here, "--pull-secret", s.file(t, "other.json", `{"auths":{}}`)),
		"there is no login of user ci for " + s.address:                        to(here, "--user", "ci"),
		"has files, and was not made by this command":                          append(here, "--dir", s.dir),
		"--also " + s.address + " is the appliance itself":                     multi("--also", s.address),
		"--also is missing":                                                    to(here, "--also-ca", "x"),
		"--also is empty":                                                      multi("--also", ""),
		"--also other.example.com:8443 is given twice":                         multi("--also", "other.example.com:8443", "--also", "https://OTHER.example.com:8443"),
		"--also other.example.com/x has a path":                                multi("--also", "other.example.com/x"),
		"is the appliance itself":                                              multi("--also", "https://"+strings.ToUpper(s.address)),
		"a registry is named without http://":                                  multi("--also", "http://"+s.address),
		"the appliance calls itself " + s.address + ", and is named 127.0.0.1": otherName,
		"complete install-config.yaml: line 1: not valid YAML":                 multi("--install-config", s.file(t, "bad.yaml", "a: [\n")),
		"the CA of " + s.address + ": no certificate in PEM form in it":        multi("--ca", s.file(t, "bad.pem", "no")),
		"cannot be asked for over a connection that is not verified":           to(there, "--dest-tls-verify=false"),
	} {
		code, stdout, stderr := s.run(t, append([]string{"cluster-config"}, args...)...)
		if code == 0 || !strings.Contains(strings.ReplaceAll(stderr, "\nhint: ", "; "), want) || !strings.Contains(stderr, "hint: ") {
			t.Errorf("%q ended with %d: %s%s\nwant %s", args, code, stdout, stderr, want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Fatalf("%q left something", args)
		}
	}
}

func (s *site) file(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(s.dir, name)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// secretFor writes a pull secret for the appliance by another name of its host.
func (s *site) secretFor(t *testing.T, address string) string {
	t.Helper()
	return s.file(t, "another.json", `{"auths":{"`+address+`":{"auth":"`+cluster.NewAuth("puller", nodePassword)+`"}}}`)
}

// The login of podman is the nodes' if it is that of the user that can only pull, or the one that is
// asked for.
func TestClusterConfig_loginOfPodman(t *testing.T) {
	s := newClusterSite(t)
	for user, flags := range map[string][]string{"puller": nil, "pull": {"--user", "pull"}} {
		password := map[string]string{"puller": nodePassword, "pull": faultPassword}[user]
		dir := filepath.Join(s.dir, user)
		s.config(t, append(flags, "docker://"+s.address, "--authfile", s.file(t, "auth.json", s.login(user, password)), "--dir", dir, "--arch", "multi")...)
		if _, secret := installSources(t, dir); secret != s.login(user, password) {
			t.Errorf("the pull secret is %s", secret)
		}
	}
}

// A login that may do more than read is given to nodes only if it is asked for.
func TestClusterConfig_loginOfAnother(t *testing.T) {
	s := newClusterSite(t)
	auth := s.file(t, "auth.json", s.login("init", faultPassword))
	code, _, stderr := s.run(t, "cluster-config", "docker://"+s.address, "--authfile", auth, "--dry-run", "--arch", "multi")
	if code != 1 || !strings.Contains(stderr, "no login for the nodes at "+s.address) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// A directory is written again over itself, and not over what a user did in it; a dry run writes
// nothing.
func TestClusterConfig_again(t *testing.T) {
	s := newClusterSite(t)
	dir := filepath.Join(s.dir, "out")
	args := []string{"--quayRoot", s.root, "--arch", "aarch64"}
	if a := s.config(t, append(args, "--dry-run")...); a.Written || len(a.Files) < 10 {
		t.Errorf("the dry run answers %+v", a)
	}
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "out" }) {
		t.Error("the dry run has written")
	}
	args = append(args, "--dir", dir)
	s.config(t, args...)
	s.config(t, append(args, "--version", "4.18.1")...)
	config := filepath.Join(dir, "install-config.yaml")
	text, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, []byte(strings.Replace(string(text), "baseDomain: example.com # FILL-IN", "baseDomain: corp.lan # done", 1)), 0o600))
	if code, _, stderr := s.run(t, append([]string{"cluster-config"}, args...)...); code == 0 || !strings.Contains(stderr, "was changed since it was made: install-config.yaml") {
		t.Errorf("over a change: %d %s", code, stderr)
	}
	a := s.config(t, append(args, "--force", "--install-config", config)...)
	if kept, err := os.ReadFile(filepath.Join(a.MovedAside, "install-config.yaml")); err != nil || !strings.Contains(string(kept), "corp.lan") {
		t.Errorf("moved aside is %q, %v", a.MovedAside, err)
	}
	if text, err = os.ReadFile(config); err != nil || !strings.Contains(string(text), "baseDomain: corp.lan # done") {
		t.Errorf("it is now\n%s", text)
	}
}

// Without a daemon; and with another user, whose password comes on standard input.
func TestClusterConfig_withoutADaemonAndOfAnotherUser(t *testing.T) {
	s := newClusterSite(t)
	s.stop(t)
	dir := filepath.Join(s.dir, "out")
	c := exec.Command(s.program, "cluster-config", "--quayRoot", s.root, "--dir", dir, "--arch", "multi", "--user", "ci", "--password-stdin")
	c.Env, c.Stdin = append(os.Environ(), "HOME="+s.dir), strings.NewReader("secret-of-ci\n")
	code, stdout, stderr := outcome(t, c)
	if code != 0 || strings.Contains(stdout+stderr, "secret-of-ci") {
		t.Fatalf("%d %s%s", code, stdout, stderr)
	}
	if _, secret := installSources(t, dir); !strings.Contains(secret, cluster.NewAuth("ci", "secret-of-ci")) || strings.Contains(secret, cluster.NewAuth("puller", nodePassword)) {
		t.Errorf("the pull secret is %s", secret)
	}
}

// Upstreams of the configuration, where nothing was mirrored: an installation through an empty
// appliance.
func TestClusterConfig_ofUpstreamsAlone(t *testing.T) {
	s := newSite(t)
	s.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Hosts: []string{"quay.io", "registry.redhat.io"}}, {Prefix: "off", URL: "https://off.example.com", Mode: config.ModeOff}}
	})
	_, err := s.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: nodePassword})
	must(t, err)
	s.secret(t, filepath.Join(filepath.Dir(config.Path(s.root)), "pull-secret.json"), "puller", nodePassword)
	dir := filepath.Join(s.dir, "out")
	if code, _, stderr := s.run(t, "cluster-config", "--quayRoot", s.root, "--dir", dir); code == 0 || !strings.Contains(stderr, "hint: name the version to install") {
		t.Errorf("without a version: %d %s", code, stderr)
	}
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--version", "4.20.3")
	const vendor = "quay.io/openshift-release-dev/"
	sources, _ := installSources(t, dir)
	for _, repository := range []string{"ocp-release", "ocp-v4.0-art-dev"} {
		if sources[vendor+repository] != s.address+"/"+vendor+repository {
			t.Errorf("the sources are %v", sources)
		}
	}
	conf, err := os.ReadFile(filepath.Join(dir, "registries.conf"))
	if err != nil || !strings.Contains(string(conf), `"registry.redhat.io"`) || strings.Contains(string(conf), "off.example.com") {
		t.Errorf("registries.conf, %v, is\n%s", err, conf)
	}
	there := filepath.Join(s.dir, "there")
	args := []string{"--dir", there, "--version", "4.20.3", "--pull-secret", filepath.Join(dir, "pull-secret.json")}
	s.config(t, append([]string{"docker://" + s.address, "--dest-creds", "init:" + faultPassword}, args...)...)
	if diff, err := exec.Command("diff", "-r", "-I", "^# CA", dir, there).CombinedOutput(); err != nil {
		t.Errorf("from elsewhere it differs:\n%s", diff)
	}
	code, _, stderr := s.run(t, append([]string{"cluster-config", "docker://" + s.address, "--dest-creds", "pull:" + faultPassword}, args...)...)
	if code != 0 || !strings.Contains(stderr, "warning: what "+s.address+" pulls through is not in the files") {
		t.Errorf("with the login of a reader: %d %s", code, stderr)
	}
	if script, err := os.ReadFile(filepath.Join(dir, "install.sh")); err != nil || !strings.Contains(string(script), "'"+s.address+"/"+vendor+"ocp-release:4.20.3-x86_64'") {
		t.Errorf("the script has no release, %v", err)
	}
}

// An upstream that fetches nothing does not lead to a release that was not mirrored.
func TestClusterConfig_ofUpstreamsThatFetchNothing(t *testing.T) {
	s := newClusterSite(t)
	args := []string{"cluster-config", "--quayRoot", s.root, "--dry-run", "--version", "4.20.3"}
	for mode, fails := range map[config.Mode]bool{config.ModeMirroredOnly: true, config.ModeCache: false} {
		s.configure(t, func(c *config.Config) {
			c.Upstreams = []config.Upstream{{Prefix: "quay.io", URL: "https://quay.io", Mode: mode}}
		})
		if code, _, stderr := s.run(t, args...); (code != 0) != fails || fails && !strings.Contains(stderr, "was not mirrored into this appliance") {
			t.Errorf("%s: %d %s", mode, code, stderr)
		}
	}
}

// The registries.conf leads a client to the appliance by the names of the source, which is gone.
func TestClusterConfig_registriesConfLeadsToTheAppliance(t *testing.T) {
	s := newClusterSite(t)
	dir := filepath.Join(s.dir, "out")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	s.upstream.Close()
	if code, said := s.reads(t, dir, s.set(t, "again.yaml", "  additionalImages: [{name: HOST/samples/docker:v1}]\n")); code != 0 {
		t.Errorf("it ended with %d\n%s", code, said)
	}
}

// A login that the appliance does not take is in no file.
func TestClusterConfig_loginThatIsRefused(t *testing.T) {
	s := newClusterSite(t)
	dir := filepath.Join(s.dir, "out")
	args := []string{"cluster-config", "--quayRoot", s.root, "--arch", "x86_64", "--dir", dir}
	code, _, stderr := s.run(t, append(args, "--pull-secret", s.file(t, "wrong.json", s.login("nobody", nodePassword)))...)
	if code != 1 || !strings.Contains(stderr, "does not take the login that nodes would get: it answers 401") || !strings.Contains(stderr, "hint: ") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	s.stop(t)
	if code, _, stderr := s.run(t, args...); code != 0 || !strings.Contains(stderr, "warning: the login of nodes was not tried: ") {
		t.Errorf("while it does not run: exit code %d, %s", code, stderr)
	}
}
