package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

func newDigestCommand() *cobra.Command {
	var host string
	cmd := &cobra.Command{
		Use:   "digest --host HOST:PORT REPOSITORY:TAG",
		Short: "Print the digest that an image has when served on HOST:PORT",
		Long: "Print the digest that an image has when served on HOST:PORT. It is computed without a\n" +
			"request, to compare with what a mirror serves.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := sample.New(host)
			if err != nil {
				return err
			}
			repo, tag, _ := strings.Cut(args[0], ":")
			m, ok := content.Manifest(repo, tag)
			if !ok {
				return fmt.Errorf("the sample content has no image %s; it has the repositories %s",
					args[0], strings.Join(content.Repositories(), ", "))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), m.Digest)
			return err
		},
	}
	cmd.Flags().StringVar(&host, "host", "127.0.0.1:5055", "address that the content is served on")
	return cmd
}
