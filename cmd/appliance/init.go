package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// The image sets to begin with, of both versions.
var (
	//go:embed imageset.yaml
	sampleImageSet []byte
	//go:embed imageset_v1.yaml
	sampleImageSetV1 []byte
)

func newInitCommand(std stdio) *cobra.Command {
	var output, registry string
	var v1 bool
	c := &cobra.Command{
		Use: "init", Short: "Print an image set configuration to begin with",
		Example: "  appliance mirror init > imageset.yaml\n  appliance mirror init --v1 --registry registry.example.com:8443/oc-mirror-metadata", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			text := sampleImageSet
			if v1 {
				text = sampleImageSetV1
			}
			if registry != "" && !v1 {
				fmt.Fprintln(std.err, "note: --registry changes nothing: only version 1 keeps something in a registry between runs (storageConfig): --v1")
			}
			if registry != "" && v1 {
				name, err := json.Marshal(registry)
				if err != nil {
					return err
				}
				text = bytes.Replace(text, []byte("local:\n    path: ./metadata"), append([]byte("registry:\n    imageURL: "), name...), 1)
			}
			return runInit(std, output, text)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "yaml", "yaml, with comments, or json")
	c.Flags().BoolVar(&v1, "v1", false, "one of oc-mirror version 1")
	c.Flags().StringVar(&registry, "registry", "", "with --v1: the image in which runs keep what they remember")
	hide(c.Flags(), "v2", true)
	return c
}

func runInit(std stdio, output string, text []byte) error {
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
