package main

import (
	"encoding/json"
	"regexp"
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

// Of version 1 there are two generations of resources, and files that no cluster takes.
//
// Spec: oc-mirror 9.6.
func TestMirrorV1_saysWhatToApply(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	file := s.writeV1(t, "mirror:\n  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-logging}]}]\n"+
		"  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n")
	code, stdout, stderr := command("mirror", "-c", file, "docker://"+s.destination, "--source-use-http", "--dest-use-http")
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	either := regexp.MustCompile(`(?m)^apply to the cluster either, as version 2 has it: oc apply -f \S+/working-dir/cluster-resources/(\S+)$`)
	or := regexp.MustCompile(`(?m)^or, and not both, as version 1 has it: oc apply -f \S+/results-\d+/(\S+)$`)
	for pattern, want := range map[*regexp.Regexp]string{
		either: "idms-oc-mirror.yaml itms-oc-mirror.yaml cs-redhat-operator-index-v4-18.yaml cc-redhat-operator-index-v4-18.yaml",
		or:     "imageContentSourcePolicy.yaml catalogSource-cs-redhat-operator-index.yaml",
	} {
		var got []string
		for _, line := range pattern.FindAllStringSubmatch(stdout, -1) {
			got = append(got, line[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("to apply are %q, want %s:\n%s", got, want, stdout)
		}
	}
	if strings.Count(stdout, "oc apply -f") != 6 {
		t.Errorf("it prints\n%s", stdout)
	}
}
