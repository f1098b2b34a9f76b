package cluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/directory"
)

// written writes the files into a directory whose name has what an unquoted word would break at.
func written(t *testing.T, f cluster.Facts) (dir string) {
	t.Helper()
	r, err := cluster.Render(f)
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "a cluster's $HOME")
	if _, err := directory.Write(dir, r.Files, false); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Shells that are POSIX's accept the scripts, and so does shellcheck where it is there.
func TestScripts_areSound(t *testing.T) {
	plain, old := facts(t, 4, 20), facts(t, 4, 13)
	plain.ZeroTouch = true
	bare := facts(t, 5, 0)
	bare.Registries[0].CA, bare.Resources = nil, nil
	checks := [][]string{{"sh", "-n"}}
	if shellcheck, err := exec.LookPath("shellcheck"); err == nil {
		checks = append(checks, []string{shellcheck, "--shell=sh"})
	}
	for _, f := range []cluster.Facts{plain, old, bare} {
		dir := written(t, f)
		scripts, err := filepath.Glob(strings.ReplaceAll(dir, "$", `\$`) + "/*.sh")
		if err != nil || len(scripts) < 2 {
			t.Fatalf("there are %v, %v", scripts, err)
		}
		for _, script := range scripts {
			for _, check := range checks {
				if out, err := exec.Command(check[0], append(check[1:], script)...).CombinedOutput(); err != nil {
					t.Errorf("%s of %s: %v\n%s", check[0], f.Version, err, out)
				}
			}
		}
	}
}

// bench is a directory with the scripts, and programs that note how they are called.
type bench struct {
	dir, bin, calls string
}

// fakeOC knows the calls that the scripts make. A release whose image is broken has no boot image.
const fakeOC = `#!/bin/sh
echo "oc $*" >>"$CALLS"
case "$*" in
*--help*) echo '      --idms-file=""' ;;
*--command=openshift-install*)
	for arg; do case $arg in --to=*) to=${arg#--to=} ;; esac; done
	cp "$FAKE_INSTALLER" "$to/openshift-install" ;;
*--image-for=machine-os-images*) echo mirror/rhcos@sha256:1 ;;
*"release info"*) printf 'Name:           4.20.3\nDigest:         sha256:01\nPull From: x\n' ;;
*"image extract"*)
	[ -z "${BROKEN-}" ] || exit 0
	for arg; do case $arg in --path=*) path=${arg#--path=} ;; esac; done
	name=${path%%:*}
	echo iso >"${path#*:}/${name##*/}" ;;
whoami*) echo admin ;;
*"get configmap default-ingress-cert"*) printf '%s\n' -----BEGIN AAAA INGRESS BB== -----END ;;
*"get configmap"*) [ -n "${BUNDLE-}" ] && echo "$BUNDLE" ;;
*"create configmap"*) for arg; do case $arg in --from-file=*) cp "${arg#--from-file=}" "$CALLS.bundle" ;; esac; done ;;
*"get image.config"*) echo "${IMAGE_CA-}" ;;
*"get proxy"*) echo "${PROXY_CA-}" ;;
*policyEngineURI*) echo https://updates.example.com ;;
*"get updateservice"*) echo update-service-oc-mirror ;;
esac
`

// fakeInstaller deletes its inputs, as the real one does, and shows a password.
const fakeInstaller = `#!/bin/sh
echo "openshift-install $*" >>"$CALLS"
case "$*" in
version) echo "release image ` + address + `/openshift/release-images@${INSTALLER_OF-` + string(payload) + `}" ;;
*"create image"*)
	for dir; do :; done
	cat "$dir/install-config.yaml" >"$CALLS.input"
	ls "$dir/openshift" >>"$CALLS"
	rm -r "$dir/install-config.yaml" "$dir/agent-config.yaml" "$dir/openshift"
	echo iso >"$dir/agent.x86_64.iso" ;;
*install-complete*)
	echo 'INFO Login to the console with user: "kubeadmin", and password: "hunter22"'
	[ -z "${INCOMPLETE-}" ] ;;
esac
`

func newBench(t *testing.T, f cluster.Facts) *bench {
	t.Helper()
	b := &bench{dir: written(t, f), bin: t.TempDir(), calls: filepath.Join(t.TempDir(), "calls")}
	for name, text := range map[string]string{"oc": fakeOC, "installer": fakeInstaller} {
		if err := os.WriteFile(filepath.Join(b.bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run runs a script from another directory.
func (b *bench) run(t *testing.T, script string, env []string, args ...string) (out string, err error) {
	t.Helper()
	c := exec.Command(filepath.Join(b.dir, script), args...)
	c.Dir = t.TempDir()
	c.Env = append(os.Environ(), append([]string{"PATH=" + b.bin + ":" + os.Getenv("PATH"), "CALLS=" + b.calls, "FAKE_INSTALLER=" + b.bin + "/installer"}, env...)...)
	text, err := c.CombinedOutput()
	if strings.Contains(string(text), secretAuth) || strings.Contains(string(text), "hunter22") {
		t.Errorf("%s %v shows a secret:\n%s", script, args, text)
	}
	return string(text), err
}

// fillIn deletes the marks, as a user does.
func (b *bench) fillIn(t *testing.T) {
	t.Helper()
	marks := regexp.MustCompile(` # FILL-IN:.*`) // which is all that the files ask for
	for _, name := range []string{"install-config.yaml", "agent-config.yaml"} {
		path := filepath.Join(b.dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, marks.ReplaceAll(text, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Steps 3, 4, 7 and 9: with the release's digest and the mirrors in each call, the boot image
// before the ISO, and the inputs of openshift-install kept.
func TestInstallScript_stepsInOrder(t *testing.T) {
	b := newBench(t, facts(t, 4, 20))
	b.fillIn(t)
	out, err := b.run(t, "install.sh", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err = b.run(t, "install.sh", nil, "wait"); err != nil || !strings.Contains(out, "see the file auth/kubeadmin-password") {
		t.Fatalf("%v\n%s", err, out)
	}
	text, _ := os.ReadFile(b.calls)
	at := 0
	for _, want := range []string{"--command=openshift-install", "release info", "openshift-install version", "--image-for=machine-os-images",
		"--path=/coreos/coreos-x86_64.iso:", "agent create image", "idms.yaml", "wait-for bootstrap-complete", "wait-for install-complete"} {
		n := strings.Index(string(text)[at:], want)
		if n < 0 {
			t.Fatalf("no %q after %d bytes of\n%s", want, at, text)
		}
		at += n
	}
	for _, line := range strings.Split(string(text), "\n") {
		reads := strings.HasPrefix(line, "oc adm release") && !strings.Contains(line, "--help") || strings.HasPrefix(line, "oc image")
		if reads && (!strings.Contains(line, "--registry-config="+b.dir+"/pull-secret.json --idms-file="+b.dir+"/oc/idms.yaml")) {
			t.Errorf("without login or mirrors: %s", line)
		}
		if strings.HasPrefix(line, "oc adm release") && reads && !strings.HasSuffix(line, address+"/openshift/release-images@"+string(payload)) {
			t.Errorf("not of the release: %s", line)
		}
	}
	given, _ := os.ReadFile(b.calls + ".input")
	for _, kept := range []string{b.dir, b.dir + "-work/inputs"} {
		if text, err := os.ReadFile(kept + "/install-config.yaml"); err != nil || string(text) != string(given) {
			t.Errorf("the copy in %s: %v", kept, err)
		}
		if _, err := os.Stat(kept + "/openshift/idms.yaml"); err != nil {
			t.Error(err)
		}
	}
	if out, err = b.run(t, "install.sh", nil, "image"); err == nil || !strings.Contains(out, "is there from an earlier run") {
		t.Errorf("a second ISO over the first: %v\n%s", err, out)
	}
}

// What is missing or wrong is said before openshift-install deletes or falls back to anything.
func TestInstallScript_refuses(t *testing.T) {
	bare := t.TempDir()
	dirname, err := exec.LookPath("dirname")
	if err == nil {
		err = os.Symlink(dirname, filepath.Join(bare, "dirname"))
	}
	if err != nil {
		t.Fatal(err)
	}
	system := "PATH=" + bare
	for name, test := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"without oc":             {[]string{system}, nil, "there is no program oc in PATH\nhint: unpack"},
		"without the installer":  {nil, []string{"image"}, "hint: take it out of the release: "},
		"with another installer": {[]string{"INSTALLER_OF=sha256:ff"}, nil, "is of another release than"},
		"without a boot image":   {[]string{"BROKEN=1"}, nil, "has no boot image for x86_64"},
		"for another machine":    {[]string{"BROKEN=1", "ARCH=aarch64"}, nil, "has no boot image for aarch64"},
		"with marks":             {nil, nil, "has marks FILL-IN in the lines above"},
		"without anything":       {[]string{system}, []string{"wait"}, "openshift-install\nhint: take it out"},
		"with another word":      {nil, []string{"everything"}, "usage: "},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, facts(t, 4, 20))
			out, err := b.run(t, "install.sh", test.env, test.args...)
			if err == nil || !strings.Contains(out, test.want) {
				t.Errorf("%v\n%s", err, out)
			}
			if calls, _ := os.ReadFile(b.calls); strings.Contains(string(calls), "create image") {
				t.Errorf("the ISO is made after\n%s", calls)
			}
		})
	}
	b := newBench(t, facts(t, 4, 20))
	b.fillIn(t)
	if out, err := b.run(t, "install.sh", nil, "extract"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := b.run(t, "install.sh", nil, "wait"); err == nil || !strings.Contains(out, "hint: make the ISO first") {
		t.Errorf("without an ISO: %v\n%s", err, out)
	}
	if out, err := b.run(t, "install.sh", nil); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := b.run(t, "install.sh", []string{"INCOMPLETE=1"}, "wait"); err == nil || !strings.Contains(out, "the installation is not complete") {
		t.Errorf("an installation that fails: %v\n%s", err, out)
	}
}

// A version that is pulled through and not mirrored is named by its tag, or by the user.
func TestInstallScript_releaseThatIsPulled(t *testing.T) {
	f := facts(t, 4, 20)
	f.Resources, f.Upstreams, f.Release = nil, []cluster.Upstream{{Prefix: "quay.io", URL: "https://quay.io"}}, cluster.Release{Tag: "4.20.9-aarch64"}
	b := newBench(t, f)
	out, _ := b.run(t, "install.sh", nil, "extract")
	if want := address + "/quay.io/" + vendorPath + "ocp-release:4.20.9-aarch64"; !strings.Contains(out, want) {
		t.Errorf("not %s:\n%s", want, out)
	}
	f.Release = cluster.Release{}
	b = newBench(t, f)
	if out, err := b.run(t, "install.sh", nil); err == nil || !strings.Contains(out, "no release is named") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := b.run(t, "install.sh", []string{"RELEASE=mirror/x@sha256:1"}, "extract"); err != nil || !strings.Contains(out, "out of mirror/x@sha256:1") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Step 10, applied: in order, and not over what another has configured.
func TestApplyScript(t *testing.T) {
	b := newBench(t, facts(t, 4, 20))
	if out, err := b.run(t, "apply.sh", nil); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, _ := os.ReadFile(b.calls)
	var applied []string
	for _, line := range strings.Split(string(text), "\n") {
		if _, name, ok := strings.Cut(line, b.dir+"/day2/"); ok {
			applied = append(applied, name[:2])
		}
		if strings.Contains(line, "oc patch") {
			applied = append(applied, "catalog")
		}
	}
	equal(t, "the order", strings.Join(applied, " "), "10 20 25 30 40 catalog catalog catalog catalog 60 60 70 75 80")
	lines := strings.Split(strings.TrimSpace(string(certificate(1))), "\n")
	for env, want := range map[string]string{
		"IMAGE_CA=theirs":                     "image.config.openshift.io/cluster names the ConfigMap theirs of openshift-config already",
		"PROXY_CA=theirs":                     "proxy.config.openshift.io/cluster names the ConfigMap theirs of openshift-config already",
		"BUNDLE=theirs":                       "user-ca-bundle of openshift-config lacks a certificate of ",
		"BUNDLE=" + strings.Join(lines, "\n"): "",
	} {
		b = newBench(t, facts(t, 4, 20))
		out, err := b.run(t, "apply.sh", []string{env})
		text, _ = os.ReadFile(b.calls)
		if (err == nil) != (want == "") || !strings.Contains(out, want) || strings.Contains(string(text), "25-user-ca-bundle") || strings.Contains(string(text), "60-idms") != (want == "") {
			t.Errorf("%s: %v\n%s\n%s", env, err, out, text)
		}
		if out, err = b.run(t, "apply.sh", []string{env, "SKIP_CA=1"}); err != nil {
			t.Errorf("%s, and skipped: %v\n%s", env, err, out)
		}
	}
}

// Step 11, applied: the ingress is trusted beside what was trusted, and the channel is one word.
func TestUpdatesScript(t *testing.T) {
	f := facts(t, 4, 20)
	f.Release.Channel = "it's; exit 7"
	b := newBench(t, f)
	if out, err := b.run(t, "updates.sh", []string{"BUNDLE=ours"}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, _ := os.ReadFile(b.calls)
	at := 0
	for _, want := range []string{"updates/10-operator.yaml", "crd/updateservices", "updates/20-update-service.yaml", "create configmap user-ca-bundle",
		`clusterversion version --type=merge -p {"spec":{"upstream":"https://updates.example.com/api/upgrades_info/v1/graph"}}`, "upgrade channel it's; exit 7\n"} {
		n := strings.Index(string(text)[at:], want)
		if n < 0 {
			t.Fatalf("no %q after %d bytes of\n%s", want, at, text)
		}
		at += n
	}
	if bundle, err := os.ReadFile(b.calls + ".bundle"); err != nil || string(bundle) != "ours\n\n-----BEGIN\nAAAA\nINGRESS\nBB==\n-----END\n" {
		t.Errorf("the bundle is %q, %v", bundle, err)
	}
	b = newBench(t, facts(t, 4, 20))
	if out, err := b.run(t, "updates.sh", []string{"BUNDLE=INGRESS"}, "eus-4.20"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text, _ = os.ReadFile(b.calls); strings.Contains(string(text), "create configmap") || !strings.Contains(string(text), "upgrade channel eus-4.20\n") {
		t.Errorf("with a trusted ingress:\n%s", text)
	}
}
