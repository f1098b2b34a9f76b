package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// Scripts match the first message. Each line mends what the line before it was refused for.
//
// Spec: oc-mirror 1.2, 1.6.
func TestMirror_flagsAreCheckedInOrder(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir())
	const wrong = " --dry-run --dry-run-manifest-lists --parallel-images 0 --parallel-layers 11 --log-level loud"
	for _, tc := range []struct{ line, want string }{
		{"", "appliance mirror takes one destination"},
		{"x --from y --since z" + wrong, "use the --config flag it is mandatory"},
		{"file://x -c f --from y --since z --workspace w" + wrong, "when destination is file://, mirrorToDisk workflow is assumed, and the --from argument is not needed"},
		{"x -c f --from y --since z --workspace w" + wrong, "when --from is used, it must have file:// prefix"},
		{"x -c f --from file://y --since z --workspace w" + wrong, "--since flag needs to be in format yyyy-MM-dd"},
		{"x -c f --workspace w" + wrong, "--dry-run and --dry-run-manifest-lists cannot be used together"},
		{"x -c f --workspace w --parallel-images 0 --parallel-layers 11 --log-level loud", "the flag parallel-images must be between the range 1 to 10"},
		{"x -c f --workspace w --parallel-layers 11 --log-level loud", "the flag parallel-layers must be between the range 1 to 10"},
		{"file://x -c f --workspace w --log-level loud", "when destination is file://, mirrorToDisk workflow is assumed, and the --workspace argument is not needed"},
		{"docker://x -c f --log-level loud", "when destination is docker://, either --from (assumes disk to mirror workflow) or --workspace (assumes mirror to mirror workflow) need to be provided"},
		{"x -c f --workspace w --log-level loud", "destination must have either file:// (mirror to disk) or docker:// (diskToMirror) protocol prefixes"},
		{"docker://x -c f --workspace w --log-level loud", "when --workspace is used, it must have file:// prefix"},
		{"docker://x -c f --workspace file://w --log-level loud", "invalid log-level, it should be one of (info,debug,trace,error)"},
		{"docker://x -c f --workspace file://w", "read image set configuration: open f: no such file or directory"},
		{"docker://x -c f --from file://w", "read image set configuration: open f: no such file or directory"},
		{"file://x -c f --since 2026-11-20", "read image set configuration: open f: no such file or directory"},
	} {
		code, stdout, stderr := command(append([]string{"mirror"}, strings.Fields(tc.line)...)...)
		first, _, _ := strings.Cut(stderr, "\n")
		if code != 1 || stdout != "" || !strings.HasPrefix(first, "error: "+tc.want) {
			t.Errorf("mirror %s\nends with %d: %s%s\nwant %s", tc.line, code, stdout, stderr, tc.want)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Spec: oc-mirror 1.3, 1.4.
func TestMirror_defaultsAreThoseOfOCMirror(t *testing.T) {
	f := findCommand(t, "mirror").Flags()
	for name, want := range map[string]string{
		"log-level": "info", "parallel-layers": "5", "parallel-images": "4", "retry-times": "5", "src-tls-verify": "true", "dest-tls-verify": "true",
		"dry-run": "false", "dry-run-manifest-lists": "false", "secure-policy": "false", "max-nested-paths": "0", "strict-archive": "false",
		"remove-signatures": "false", "ignore-release-signature": "false", "since": "", "from": "", "workspace": "", "config": "", "authfile": "",
	} {
		if got := f.Lookup(name).DefValue; got != want {
			t.Errorf("the default of --%s is %q, want %q", name, got, want)
		}
	}
}

// Spec: oc-mirror 1.5, 1.7.
func TestDelete_flagsAreChecked(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for line, want := range map[string]string{
		"--generate docker://x -c f":                 "use the --workspace flag, it is mandatory when using the delete command with the --generate flag",
		"--generate docker://x --workspace file://w": "the --config flag is mandatory when used with the --generate flag",
		"docker://x": "the --delete-yaml-file flag is mandatory when not using the --generate flag",
		"docker://x --delete-yaml-file f --delete-v1-images":                       "the --delete-v1-images flag can only be used alongside the --generate flag",
		"--delete-yaml-file f":                                                     "the destination registry is missing in the command arguments",
		"--delete-yaml-file f x":                                                   "the destination registry argument must have a docker:// protocol prefix",
		"docker://localhost:1 --delete-yaml-file /none/f --workspace file:///none": "file not found /none/f",
	} {
		code, _, stderr := command(append([]string{"delete"}, strings.Fields(line)...)...)
		if code != 1 || !strings.HasPrefix(stderr, "error: "+want+"\n") {
			t.Errorf("delete %s\nends with %d: %s\nwant %s", line, code, stderr, want)
		}
	}
}

// Spec: oc-mirror 1.10.
func TestMirror_exitCodeIsASum(t *testing.T) {
	s := newMirrorSetup(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	for text, want := range map[string]int{
		"  platform: {channels: [{name: none-4.18}]}\n":                                             2,
		"  additionalImages: [{name: HOST/none:v1}]\n":                                              8,
		"  helm: {repositories: [{name: r, url: 'http://HOST/charts/', charts: [{name: none}]}]}\n": 16,
		"  additionalImages: [{name: HOST/samples/docker:v1}]\n":                                    0,
		"  blockedImages: [{name: .}]\n  additionalImages: [{name: HOST/samples/docker:v1}]\n":      1,
	} {
		if code, stdout, stderr := s.sections(t, text); code != want {
			t.Errorf("%s ends with %d, want %d\n%s%s", text, code, want, stdout, stderr)
		}
	}
	code, stdout, _ := s.sections(t, "  platform: {channels: [{name: none-4.18}]}\n  additionalImages: [{name: HOST/none:v1}]\n"+
		"  helm: {local: [{name: none, path: /none}]}\n")
	if code != 2+8+16 {
		t.Errorf("one of each fails, and the exit code is %d", code)
	}
	says(t, stdout, "incomplete: releases of none-4.18, architecture amd64\n")
}

// sections mirrors what stands below mirror: in an image set.
func (s *mirrorSetup) sections(t *testing.T, text string, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "imageset.yaml")
	text = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(text, "HOST", s.source)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return command(append([]string{"mirror", "-c", file, "docker://" + s.destination, "--workspace", "file://" + s.workspace,
		"--src-tls-verify=false", "--dest-tls-verify=false", "--retry-times", "0"}, flags...)...)
}

// Spec: oc-mirror 1.9, 4.2.
func TestMirror_versionFilter(t *testing.T) {
	s := newMirrorSetup(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	t.Setenv("OC_MIRROR_CACHE", "/none") // nothing is cached
	t.Setenv("VERSION_FILTER", `[.][12]$`)
	code, stdout, stderr := s.sections(t, "  platform: {channels: [{name: stable-4.18}]}\n", "--dry-run", "--ignore-release-signature")
	if code != 0 || !strings.Contains(stdout, ":4.18.2-x86_64\n") || strings.Contains(stdout, ":4.18.3-x86_64\n") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	t.Setenv("VERSION_FILTER", `[`)
	code, _, stderr = s.sections(t, "  platform: {channels: [{name: stable-4.18}]}\n")
	if code != 1 || !strings.HasPrefix(stderr, `error: VERSION_FILTER is "["`) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// A login is asked for before an hour of planning, of a dry run too.
//
// Spec: oc-mirror 1.6.
func TestMirror_loginThatARegistryRefuses(t *testing.T) {
	s := newMirrorSetup(t)
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(closed.Close)
	s.destination = closed.Listener.Addr().String()
	for _, flags := range [][]string{{"--dest-creds", "u:wrong"}, {"--dest-no-creds", "--dry-run"}, {}} {
		code, stdout, stderr := s.mirror(t, []string{held}, flags...)
		if code != 1 || strings.Contains(stdout, "planning") {
			t.Errorf("%v: exit code %d\n%s", flags, code, stdout)
		}
		says(t, stderr, `error: checking registry "`+s.destination+`" access: failed to authenticate: `, "hint: log in first: podman login "+s.destination)
	}
	code, stdout, _ := s.with(t, executePlugin, []string{absent}, "--v2", "--dest-creds", "u:right")
	if code != 8 {
		t.Errorf("a login that is right: exit code %d", code)
	}
	says(t, stdout, `[INFO]   : Verified we can authenticate against registry "`+s.destination+`"`)
}

// Spec: oc-mirror 3.6.
func TestPlugin_dryRunToDisk(t *testing.T) {
	s := newMirrorSetup(t)
	dir := t.TempDir()
	var out bytes.Buffer
	code := executePlugin([]string{"--v2", "-c", s.imageSetFile(t, held), "file://" + dir, "--src-tls-verify=false", "--dry-run"},
		stdio{in: strings.NewReader(""), out: &out, err: &out})
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	files := filepath.Join(dir, "working-dir", "dry-run")
	says(t, out.String(), "1/1 images necessary for mirroring are not available in the cache.", "List of missing images in : "+files+
		"/missing.txt.\nplease re-run the mirror to disk process", "list of all images for mirroring in : "+files+"/mapping.txt")
}

// A shell asks for completions without either version's flag.
//
// Spec: oc-mirror 1.1.
func TestPlugin_commandsBelow(t *testing.T) {
	for line, want := range map[string]string{
		"completion bash --v2": "oc-mirror", "__complete lis": "list\t", "init": "kind: ImageSetConfiguration", "init --v1": "kind: ImageSetConfiguration",
		"describe --v1 /none": "open the archive: stat /none", "history --v2 --workspace file:///none": "stat /none",
	} {
		var out bytes.Buffer
		executePlugin(strings.Fields(line), stdio{in: strings.NewReader(""), out: &out, err: &out})
		says(t, out.String(), want)
	}
}

func TestMirror_destinationWithoutTLS(t *testing.T) {
	s := newMirrorSetup(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	s.destination = plain.Listener.Addr().String()
	code, _, stderr := s.mirror(t, []string{held}, "--dest-tls-verify=true")
	if code != 1 || !strings.Contains(stderr, "\nhint: it does not speak TLS there") || !strings.Contains(stderr, "access: connect with TLS: http: server gave HTTP response to HTTPS client") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// A registry of plain HTTP that breaks off each connection is told as that, as a destination and as a
// source: nothing is said of TLS, and no flag named that is given.
func TestMirror_plainRegistryThatBreaksOff(t *testing.T) {
	broken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broken.Close() })
	go func() {
		for {
			c, err := broken.Accept()
			if err != nil {
				return
			}
			first := make([]byte, 4096)
			if _, err := c.Read(first); err == nil && first[0] == 0x16 { // a client hello
				_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n")
			}
			_ = c.Close()
		}
	}()
	s := newMirrorSetup(t)
	one := s.imageSetFile(t, held)
	s.source = broken.Addr().String()
	for name, args := range map[string][]string{
		"destination": {"-c", one, "--workspace", "file://" + t.TempDir(), "docker://" + broken.Addr().String(), "--dest-tls-verify=false"},
		"source":      {"-c", s.imageSetFile(t, held), "file://" + t.TempDir(), "--retry-times", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := command(append([]string{"mirror", "--src-tls-verify=false"}, args...)...)
			if said := stdout + stderr; code == 0 || strings.Contains(said, "https") || strings.Contains(said, "daemon") || strings.Contains(said, "tls-verify") ||
				!strings.Contains(said, "has no TLS, and breaks off connections of plain HTTP: Get \"http://"+broken.Addr().String()+"/v2/\": EOF") {
				t.Errorf("exit code %d\n%s", code, said)
			}
		})
	}
}
