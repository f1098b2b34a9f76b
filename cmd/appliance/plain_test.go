package main

import (
	"bytes"
	"io"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store/backup"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// TestTables_namesStayInTheirPlace prints what daemons, files and upstreams say: a name in it
// neither drives a terminal nor begins a line or a column of its own.
func TestTables_namesStayInTheirPlace(t *testing.T) {
	const evil = "name\x1b[2J\nhealthy   yes\tadmin\u202e"
	tables := map[string]func(w io.Writer, name string){
		"status": func(w io.Writer, name string) {
			printStatus(w, shownStatus{Status: api.Status{
				Address: name, Version: name, Services: map[string]bool{name: false}, Space: []api.Space{{Path: name}},
				LastGC: &api.GCResult{Error: name}, Trouble: []api.Trouble{{Problem: name, Hint: name}},
			}, Followers: []api.Follower{{Address: name}}})
		},
		"user list": func(w io.Writer, name string) {
			printChanged(w, api.User{Name: name, Role: name})
			printUsers(w, []api.User{{Name: name, Role: name, Repositories: []string{name}}})
		},
		"verify": func(w io.Writer, name string) {
			printVerify(w, findings.Report{Problems: []findings.Problem{{Name: name, What: name, Remedy: name}}})
		},
		"scrub": func(w io.Writer, name string) {
			printScrub(w, findings.ScrubReport{Damage: []findings.Damage{{Digest: digest.Digest(name), Cause: name, RepairError: name, Images: []string{name}}}})
		},
		"restore": func(w io.Writer, name string) {
			printRestore(w, name, backup.RestoreReport{Damaged: 1, DamagedBlobs: []digest.Digest{digest.Digest(name)}})
		},
		"mirror": func(w io.Writer, name string) {
			p := &progress{out: w}
			i := &plan.Image{Origin: name, Repository: name, Tag: name, Reason: name}
			p.event(mirror.Event{Kind: mirror.Done, Image: i})
			p.event(mirror.Event{Kind: mirror.Failed, Image: i})
			p.results(&mirror.Report{Resources: []string{name}, Failures: []plan.Failure{{Image: i, Incomplete: name}}})
		},
	}
	for command, table := range tables {
		t.Run(command, func(t *testing.T) {
			var harmless, harmful bytes.Buffer
			table(&harmless, "name")
			table(&harmful, evil)
			if !strings.Contains(harmful.String(), `name\x1b[2J`) || strings.ContainsAny(harmful.String(), "\x1b\u202e") {
				t.Errorf("it says %q", harmful.String())
			}
			if got, want := strings.Count(harmful.String(), "\n"), strings.Count(harmless.String(), "\n"); got != want {
				t.Errorf("%d lines instead of %d:\n%s", got, want, harmful.String())
			}
		})
	}
}

// full is a disk on which there is no more room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A script must not take half of an answer for all of it.
func TestExecute_outputIsNotWritten(t *testing.T) {
	var said bytes.Buffer
	if code := execute([]string{"version"}, stdio{out: full{}, err: &said}); code != exitError || !strings.Contains(said.String(), "no space left on device") {
		t.Errorf("exit code %d, %q", code, said.String())
	}
}

// A mirror that draws no bar says how much has come while a large layer comes.
func TestProgress_copying(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out}
	p.event(mirror.Event{Kind: mirror.Bytes, Bytes: 1 << 20})
	plan := &plan.Plan{Missing: 3 << 20}
	p.copying(plan)
	p.copying(plan) // a line was said just now
	if got := out.String(); got != "fetched 1.0 MiB of 3.0 MiB\n" {
		t.Errorf("said %q", got)
	}
	p.start(plan)
	p.stop() // which ends what start began
}

// TestFailure_linesOfAnErrorAreIndented has what an upstream says look like a line
// of the program's own.
func TestFailure_linesOfAnErrorAreIndented(t *testing.T) {
	var out bytes.Buffer
	(&progress{out: &out}).failure(plan.Failure{Image: &plan.Image{Origin: "a/b"}, Error: "one\ncopied \x1b[2Jx"})
	if want := "failed: a/b ()\n        one\n        copied \\x1b[2Jx\n"; out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
}

// TestSurviveClosedOutput_isNotInherited asks a program that a command runs which
// signals it ignores.
func TestSurviveClosedOutput_isNotInherited(t *testing.T) {
	ignored := func() bool {
		t.Helper()
		out, err := exec.Command("sed", "-n", "s/^SigIgn:[[:blank:]]*//p", "/proc/self/status").Output()
		if err != nil {
			t.Fatal(err)
		}
		set, err := strconv.ParseUint(strings.TrimSpace(string(out)), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return set&(1<<(syscall.SIGPIPE-1)) != 0
	}
	if ignored() {
		t.Skip("whatever runs this test ignores the signal")
	}
	surviveClosedOutput()
	defer signal.Reset(syscall.SIGPIPE)
	if ignored() {
		t.Error("it ignores SIGPIPE, and so goes on writing for nobody")
	}
}
