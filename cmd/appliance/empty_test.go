package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestPaths_emptyIsRefused gives every command that takes a path none, as a script does
// whose variable is not set.
func TestPaths_emptyIsRefused(t *testing.T) {
	commands := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.InheritedFlags() // which makes them known
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ok := f.Value.(pathValue); !ok {
				return
			}
			commands++
			for _, empty := range []string{"", "  "} {
				var out bytes.Buffer
				args := append(strings.Fields(c.CommandPath())[1:], "--"+f.Name+"="+empty)
				code := execute(args, stdio{in: strings.NewReader(""), out: &out, err: &out})
				if code == 0 || !strings.Contains(out.String(), "--"+f.Name) || !strings.Contains(out.String(), "path is empty") || !strings.Contains(out.String(), "hint: name a path, or leave the flag out") {
					t.Errorf("%v: exit code %d\n%s", args, code, &out)
				}
			}
		})
		for _, below := range c.Commands() {
			visit(below)
		}
	}
	visit(newRootCommand(stdio{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}}))
	if commands < 40 {
		t.Errorf("only %d flags take a path", commands)
	}
	for _, args := range [][]string{{"backup", ""}, {"restore", " "}} {
		var out bytes.Buffer
		if code := execute(args, stdio{in: strings.NewReader(""), out: &out, err: &out}); code != 1 || !strings.Contains(out.String(), "the path is empty: appliance "+args[0]+" takes the directory") {
			t.Errorf("%q: exit code %d\n%s", args, code, &out)
		}
	}
}
