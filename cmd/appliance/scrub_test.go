package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// TestPrintScrub: a line for each blob, and one for each image that needs it, for who greps.
func TestPrintScrub(t *testing.T) {
	var out bytes.Buffer
	printScrub(&out, findings.ScrubReport{Blobs: 2, Damaged: 2, Repaired: 1, Damage: []findings.Damage{
		{Digest: "sha256:a", Cause: "it is cut short", RepairError: "quay.io: down\ndocker.io: not found", Images: []string{"a/b:v1"}},
		{Digest: "sha256:b", Cause: "it is missing", Repaired: true},
	}})
	want := []string{
		"sha256:a (0 B): it is cut short; not repaired: quay.io: down; docker.io: not found",
		"    needed by a/b:v1",
		"sha256:b (0 B): it is missing; fetched again",
		"read 2 blobs (0 B): 2 damaged, 1 of them repaired", "",
	}
	if got := out.String(); got != strings.Join(want, "\n") {
		t.Errorf("it says\n%s", got)
	}
}
