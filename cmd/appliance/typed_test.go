package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/installer"
)

// TestTyped_inListsOfProblems says commands with the program's whole path also where several
// problems are listed, where a warning has one, and between backquotes.
func TestTyped_inListsOfProblems(t *testing.T) {
	wholePathOf = func() string { return "/opt/appliance" }
	t.Cleanup(func() { wholePathOf = wholePath })
	problems := []installer.Problem{{What: "one", Remedy: "remove it first: appliance uninstall --quayRoot /x"}, {What: "two", Remedy: "run `appliance scrub`"}}
	var out bytes.Buffer
	report(&out, &installer.PreflightError{Problems: problems})
	warn(&out, problems)
	if strings.Count(out.String(), "/opt/appliance uninstall --quayRoot /x") != 2 || strings.Count(out.String(), "`/opt/appliance scrub`") != 2 {
		t.Errorf("it says\n%s", &out)
	}
}
