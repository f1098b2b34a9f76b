package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// Spec: oc-mirror 1.1.
func TestIsPlugin(t *testing.T) {
	for program, want := range map[string]bool{
		"oc-mirror": true, "/usr/local/bin/oc-mirror": true, "kubectl-mirror": true, "oc-mirror.rhel9": true,
		"appliance": false, "/opt/oc-mirror/appliance": false,
	} {
		if got := isPlugin(program); got != want {
			t.Errorf("%s is the plugin: %v, want %v", program, got, want)
		}
	}
}

// Spec: oc-mirror 1.1.
func TestPlugin_oneVersionIsNamed(t *testing.T) {
	for line, want := range map[string]string{
		"-c isc.yaml file://x":           "the use of the flag --v1 or --v2 is mandatory",
		"-c isc.yaml file://x --v1 --v2": "the flags --v1 and --v2 are mutually exclusive",
	} {
		var out, errs bytes.Buffer
		code := executePlugin(strings.Fields(line), stdio{in: strings.NewReader(""), out: &out, err: &errs})
		if code != 255 || !strings.Contains(out.String(), "[ERROR]  : "+want) || errs.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", line, code, out.String(), errs.String())
		}
	}
	var out bytes.Buffer
	if code := executePlugin([]string{"version"}, stdio{in: strings.NewReader(""), out: &out, err: &out}); code != 0 {
		t.Errorf("version: exit code %d: %s", code, out.String())
	}
}

// The lines are those that scripts search for, in oc-mirror's order and form.
//
// Spec: oc-mirror 1.1, 3.3.
func TestPlugin_lines(t *testing.T) {
	s := newMirrorSetup(t)
	code, stdout, stderr := s.with(t, executePlugin, []string{held, absent, "samples/oci:v1"}, "--v2", "--cache-dir", "/x")
	if code != 8 || stderr != "" {
		t.Errorf("exit code %d, on standard error: %s", code, stderr)
	}
	rest := stdout
	for _, want := range []string{
		"[INFO]   : note: --cache-dir changes nothing", "👋 Hello, welcome to oc-mirror\n", "⚙️  environment version: ", "🔀 workflow mode: mirrorToMirror \n",
		"🚀 Start copying the images...\n", "📌 images to copy 2 \n", "=== Results ===\n",
		" ✗  2 / 3 additional images mirrored: Some additional images failed to be mirrored - please check the logs\n",
		"mirror time     : ", "👋 Goodbye, thank you for using oc-mirror\n", "[ERROR]  : 1 of 3 images",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Errorf("%q is missing, or not in order:\n%s", want, stdout)
			continue
		}
		rest = after
	}
	says(t, stdout, "[INFO]   : Success copying "+s.source+"/"+held+" ➡️ "+s.destination+"/samples/\n")
	form := regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d  \[(INFO|WARN|ERROR)\] *: `)
	for line := range strings.Lines(stdout) {
		if !form.MatchString(line) && !strings.HasPrefix(line, "        ") {
			t.Errorf("a line of another form: %s", line)
		}
	}
}
