package main

import (
	_ "embed"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// sampleImageSet is an image set to begin with.
//
//go:embed imageset.yaml
var sampleImageSet []byte

func newInitCommand(std stdio) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "init", Short: "Print an image set configuration to begin with",
		Example: "  appliance mirror init > imageset.yaml", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("registry") {
				fmt.Fprintln(std.err, "note: --registry changes nothing: the file that is printed keeps nothing in a registry between runs (storageConfig of version 1 does)")
			}
			return runInit(std, output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "yaml", "yaml, with comments, or json")
	hide(c.Flags(), "registry", false)
	hide(c.Flags(), "v1", true)
	hide(c.Flags(), "v2", true)
	return c
}

func runInit(std stdio, output string) error {
	text := sampleImageSet
	switch output {
	case "json":
		var err error
		if text, err = yaml.YAMLToJSON(text); err != nil {
			return err
		}
		text = append(text, '\n')
	case "yaml":
	default:
		return hint.New(fmt.Errorf("--output %q is not known", output), "leave it out, or use json")
	}
	_, err := std.out.Write(text)
	return err
}
