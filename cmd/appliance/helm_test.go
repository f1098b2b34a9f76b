package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// The program that is unpacked and started is one of this host.
func TestHelmProgram_unpacked(t *testing.T) {
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	before := helmInside
	defer func() { helmInside = before }()
	helmInside = packed.Bytes()
	var h helmProgram
	defer h.close()
	for range 2 {
		cmd, err := h.command(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func TestHelmProgram_missing(t *testing.T) {
	if len(helmInside) > 0 {
		t.Skip("this build has it inside")
	}
	var h helmProgram
	if _, err := h.command(t.Context()); hint.Of(err) == "" {
		t.Errorf("error %v", err)
	}
}
