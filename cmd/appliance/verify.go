package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

type verifyOptions struct {
	locateOptions
	content bool
	rate    int64
	output  string
}

func (o *verifyOptions) addFlags(f *pflag.FlagSet) {
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.content, "content", false, "also read every layer and check its digest")
	addRateFlag(f, &o.rate, "read")
	addOutputFlag(f, &o.output)
}

func newVerifyCommand(std stdio) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check, reading only, that nothing that was stored is damaged or missing",
		Long: `Check, reading only, that nothing that was stored is damaged or missing: database, manifests, their
references, tags, and the file of every layer. The registry goes on serving.

Exit codes: 0 nothing is damaged, 1 something is, or it could not be checked.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runVerify(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	return c
}

func runVerify(ctx context.Context, std stdio, o verifyOptions) error {
	o.existing = true
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		report, err := control.Verify(ctx, api.VerifyRequest{Content: o.content,
			BytesPerSecond: o.rate}, verifyProgress(std.err, o.content))
		if err != nil {
			return err
		}
		err = show(std.out, o.output, report, printVerify)
		if err != nil || report.Clean() {
			return err
		}
		return hint.New(
			fmt.Errorf("%s found", count(len(report.Problems)+int(report.MoreProblems), "problem")),
			"each problem says what to do about it")

	})
}

func verifyProgress(w io.Writer, content bool) func(api.VerifyProgress) {
	say := nowAndThen(w)
	return func(p api.VerifyProgress) {
		text := fmt.Sprintf("%d of %d manifests, %d of %d blobs", p.Done.Manifests, p.Of.Manifests,
			p.Done.Blobs, p.Of.Blobs)
		if content {
			text += fmt.Sprintf(", %s of %s", bytesOf(p.Done.ContentBytes), bytesOf(p.Of.BlobBytes))
		}
		say("%s", text)
	}
}

func printVerify(w io.Writer, r findings.Report) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s\n    %s\n", plain.Line(p.String()), plain.Line(p.Remedy))
	}
	if r.MoreProblems > 0 {
		fmt.Fprintf(w, "and %d more\n", r.MoreProblems)
	}
	fmt.Fprintf(w, "verified %d manifests, %d references, %d tags, %d blobs (%s)", r.Manifests,
		r.References, r.Tags, r.Blobs, bytesOf(r.BlobBytes))
	if r.ContentBytes > 0 {
		fmt.Fprintf(w, ", %s of it read", bytesOf(r.ContentBytes))
	}
	fmt.Fprintln(w)
	if r.Quarantined > 0 {
		fmt.Fprintf(w, "%d blobs are out of service, see appliance scrub\n", r.Quarantined)
	}
	if r.ExtraFiles+r.StaleUploads > 0 {
		fmt.Fprintf(w, "left over, for gc to take: %d files (%s), %d uploads (%s)\n", r.ExtraFiles,
			bytesOf(r.ExtraBytes), r.StaleUploads, bytesOf(r.StaleUploadBytes))
	}
	if r.Clean() {
		fmt.Fprintln(w, "nothing is damaged")
	}
}
