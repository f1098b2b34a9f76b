package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// What blockedImages leaves out is counted and named, in the plan and in the report.
//
// Spec: oc-mirror 6.3.
func TestMirror_saysWhatIsBlocked(t *testing.T) {
	s := newMirrorSetup(t)
	const set = "  additionalImages: [{name: HOST/samples/docker:v1}, {name: HOST/samples/oci:v1}]\n  blockedImages: [{name: samples/oci}]\n"
	line := "blocked: 1 image (" + s.source + "/samples/oci:v1)\n"
	for _, flags := range [][]string{{"--dry-run"}, nil} {
		code, stdout, stderr := s.sections(t, set, flags...)
		if code != 0 || !strings.Contains(stdout, line) {
			t.Errorf("%v: exit code %d, no line %q in\n%s%s", flags, code, line, stdout, stderr)
		}
		_, stdout, _ = s.sections(t, set, append(flags, "-o", "json")...)
		var last struct{ Blocked []struct{ Origin string } }
		if err := json.Unmarshal([]byte(lastLine(stdout)), &last); err != nil || len(last.Blocked) != 1 || last.Blocked[0].Origin != s.source+"/samples/oci:v1" {
			t.Errorf("%v: %v, as JSON %s", flags, err, lastLine(stdout))
		}
	}
	if _, stdout, _ := s.sections(t, "  additionalImages: [{name: HOST/samples/docker:v1}]\n"); strings.Contains(stdout, "blocked") {
		t.Errorf("nothing is blocked, and it prints\n%s", stdout)
	}
}
