package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/archive"
)

func newDescribeCommand(std stdio) *cobra.Command {
	var output string
	var verify, v1 bool
	c := &cobra.Command{
		Use:   "describe DIR|FILE…",
		Short: "Describe an archive: its images, what it builds on, and what is wrong with it",
		Long: `Describe an archive: its images, what it builds on, its chunks, and what is wrong with them. Content is read with
--verify only.

Exit codes: 0 the archive is complete, 1 something of it is missing or damaged, or it could not be read.`,
		Example: "  appliance mirror describe /media/usb\n  appliance mirror describe --verify /media/usb",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(c, errors.New("one directory or file is needed, such as /media/usb"))
			}
			if v1 {
				return describeV1(c.Context(), std.plain(), args)
			}
			return runDescribe(c.Context(), std.plain(), output, verify, args)
		},
	}
	c.Flags().BoolVar(&verify, "verify", false, "read all content too, and compare it with its digests")
	c.Flags().BoolVar(&v1, "v1", false, "print the metadata of an archive of oc-mirror version 1, in JSON as that does")
	addOutputFlag(c.Flags(), &output)
	return c
}

// describeV1 prints what an archive of version 1 remembers of its runs.
func describeV1(ctx context.Context, std stdio, args []string) (err error) {
	paths, err := described(args)
	if err != nil {
		return err
	}
	a, err := archive.Open(ctx, paths...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	raw := a.V1().Metadata
	if raw == nil {
		return hint.New(errors.New("the archive has no metadata: it is not one of oc-mirror version 1"), "appliance mirror describe, without --v1")
	}
	var text bytes.Buffer
	if err := json.Indent(&text, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	text.WriteByte('\n')
	_, err = std.out.Write(text.Bytes())
	return err
}

// described returns the paths that the arguments name.
func described(args []string) (paths []string, err error) {
	for _, arg := range args {
		path, err := expandPath(arg)
		if err != nil {
			return nil, err
		}
		paths = append(paths, strings.TrimPrefix(path, "file://"))
	}
	return paths, nil
}

func runDescribe(ctx context.Context, std stdio, output string, verify bool, args []string) error {
	paths, err := described(args)
	if err != nil {
		return err
	}
	read := archive.Describe
	if verify {
		say := nowAndThen(std.err)
		read = func(ctx context.Context, paths ...string) (*archive.Description, error) {
			return archive.Verify(ctx, func(n, all int64) { say("read %s of %s", bytesOf(n), bytesOf(all)) }, paths...)
		}
	}
	d, err := read(ctx, paths...)
	if err != nil {
		return err
	}
	if err := show(std.out, output, d, printDescription); err != nil || len(d.Problems) == 0 {
		return err
	}
	return hint.New(fmt.Errorf("the archive cannot be imported like that, %s", count(len(d.Problems), "problem")),
		"copy the files again from where they were written, or name the directory of what is missing as well")
}

func printDescription(w io.Writer, d *archive.Description) {
	for _, a := range d.Archives {
		printArchive(w, a)
	}
	for _, p := range d.Problems {
		fmt.Fprintln(w, "problem:", plain.Line(p))
	}
}

func printArchive(w io.Writer, a archive.Described) {
	fmt.Fprintf(w, "%d of %s, %s, %s\n", len(a.Files), count(a.Chunks, "chunk"), bytesOf(a.Bytes),
		count(a.Blobs, "blob"))
	if a.Archive == "" {
		fmt.Fprintln(w, "written by another program, without a list of its contents")
	} else {
		fmt.Fprintf(w, "archive number %d, %s\n", a.Sequence, a.Archive)
	}
	if !a.Created.IsZero() {
		fmt.Fprintf(w, "written %s by version %s\n", when(a.Created), plain.Line(a.Version))
	}
	switch on := a.BuildsOn; {
	case on != nil && on.Inventory != "":
		fmt.Fprintf(w, "leaves out %s that an inventory of %s lists\n", count(a.LeftOut, "blob"), when(on.Created))
	case on != nil:
		fmt.Fprintf(w, "builds on archive number %d: leaves out %s of it and those before it\n",
			on.Sequence, count(a.LeftOut, "blob"))
	}
	for _, i := range a.Images {
		name := i.Repository + ":" + i.Tag
		if i.Reference != "" {
			name += " from " + i.Reference
		}
		fmt.Fprintf(w, "image %s %s\n", plain.Line(name), i.Digest)
	}
	for _, f := range a.Failures {
		fmt.Fprintf(w, "not in it: %s: %s\n", plain.Line(f.Origin), plain.Line(f.Error))
	}
}
