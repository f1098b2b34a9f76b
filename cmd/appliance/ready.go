package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/sshkey"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/ready"
)

// Exit codes of ready, besides 0 and 1.
const (
	exitRisks    = 3
	exitNotReady = 4
)

// notReady is a verdict that is not a plain yes.
type notReady struct {
	error
	code int
}

// ExitCode returns the exit code of ready.
func (e notReady) ExitCode() int { return e.code }

type readyOptions struct {
	applianceOptions
	request    api.ReadyRequest
	key        string
	state      string
	output     string
	asImageSet bool
	sign       string
	signer     ssh.Signer // of it
	check      string
	allowed    string
}

func newReadyCommand(std stdio) *cobra.Command {
	var o readyOptions
	c := &cobra.Command{
		Use:   "ready [docker://HOST:PORT] {--to VERSION [--from VERSION] | --check FILE}",
		Short: "Judge whether a cluster can be installed from what the appliance has, or upgraded with it",
		Long: `Judge whether a cluster can be installed from what the registry of this host has, or another's as a user of role admin,
without a network: the release, each of its images on each architecture of the nodes, the boot image, the mirror sets
that lead to them, and the signatures that a cluster and its nodes demand. What could not be checked is a no.

With --from, judge whether a cluster of that version can be upgraded: the way through the update graph, the risks of its
updates, and each release on the way. Without --channel the channel is chosen, a stable one if there is one. With
--cluster-state, what the cluster has told of itself names its version, its channel and its mirror sets, and its operators are
judged by the catalogs that are here: whether each is for the versions on the way, or can be updated, with all its images. Of
the file no more than these facts goes to the registry. It is made by:

  ` + state.Export + ` > cluster.json
  ` + state.Extensions + ` >> cluster.json

The second is for clusters with OLM v1.

With --content each layer that the verdict relies on is read and compared with its digest. With --as-imageset, print the
ImageSetConfiguration that brings what is missing.

With --sign the verdict is JSON with a signature in the format of SSH, by a key that is named as to ssh-keygen -Y sign: a private
one, whose passphrase is asked for on the terminal, or a public one whose private half is in the ssh agent (SSH_AUTH_SOCK), as
keys of hardware are. --check FILE verifies
the signature of such a file, or reads one without (-o json), and compares the releases with their images, the graph data and
the catalogs that the verdict was given for with those that the registry has now. With --allowed-signers, a file as that of ssh-keygen,
it is to be signed by one of these.

Exit codes: 0 yes; 3 yes, with risks; 4 no; 1 no verdict could be given.`,
		Example: `  appliance ready --to 4.20.3
  appliance ready --to 4.20.3-multi --arch amd64,arm64 --content -o json
  appliance ready --from 4.18.12 --to 4.20.3 --channel eus-4.20
  appliance ready --to 4.20.3 --cluster-state cluster.json
  appliance ready --to 4.20.3 --as-imageset > missing.yaml
  appliance ready --to 4.20.3 --cluster-state cluster.json --sign ~/.ssh/ready > verdict.json
  appliance ready --check verdict.json --allowed-signers signers`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.validate(c.Flags()); err != nil {
				return usageError(c, err)
			}
			if o.check != "" {
				return runReadyCheck(c.Context(), std, o, args)
			}
			return runReady(c.Context(), std, o, args)
		},
	}
	f := c.Flags()
	o.addFlags(f)
	addOutputFlag(f, &o.output)
	f.StringVar(&o.request.To, "to", "", "release: a version such as 4.20.3, a tag such as 4.20.3-x86_64, or a digest")
	f.StringVar(&o.request.From, "from", "", "the version of the cluster, such as 4.18.12 (default: it is to be installed)")
	f.StringVar(&o.request.Channel, "channel", "", "channel of the cluster, such as stable-4.20")
	f.StringSliceVar(&o.request.Architectures, "arch", nil, "architectures of the nodes: amd64, arm64, ppc64le, s390x, or multi (default those of the release)")
	pathVar(f, &o.key, "release-key", "", "armored OpenPGP keys that sign releases besides the vendor's (default $OCP_SIGNATURE_VERIFICATION_PK)")
	pathVar(f, &o.state, "cluster-state", "", "what the cluster has told of itself, JSON of oc get; - is standard input")
	f.BoolVar(&o.request.Content, "content", false, "read each layer that the verdict relies on and check its digest")
	addRateFlag(f, &o.request.BytesPerSecond, "read")
	pathVar(f, &o.sign, "sign", "", "sign the verdict with this key of SSH, private or in the ssh agent, and print it as JSON")
	pathVar(f, &o.check, "check", "", "check a verdict that was given before")
	pathVar(f, &o.allowed, "allowed-signers", "", "keys that may have signed it, as for ssh-keygen: NAME KEY")
	f.BoolVar(&o.asImageSet, "as-imageset", false, "print the image set configuration that brings what is missing")
	return c
}

// validate refuses flags that exclude each other.
func (o *readyOptions) validate(f *pflag.FlagSet) error {
	if o.check != "" {
		for _, name := range []string{"to", "from", "channel", "arch", "release-key", "cluster-state", "content", "sign", "as-imageset"} {
			if f.Changed(name) {
				return fmt.Errorf("--check takes a verdict as it is: leave out --%s", name)
			}
		}
		return nil
	}
	switch {
	case o.allowed != "":
		return errors.New("--allowed-signers is for --check")
	case o.request.To == "":
		return hint.New(errors.New("--to is missing"), "name the release, such as --to 4.20.3")
	case o.asImageSet && o.sign != "":
		return errors.New("--as-imageset and --sign exclude each other")
	case o.asImageSet:
		return checkYAML(o.output)
	}
	return nil
}

// checkYAML refuses --output with --as-imageset.
func checkYAML(output string) error {
	if output == "" {
		return nil
	}
	return hint.New(fmt.Errorf("--as-imageset prints YAML, and excludes --output %s", output), "leave one of them out")
}

func runReady(ctx context.Context, std stdio, o readyOptions, args []string) error {
	if file := cmp.Or(o.key, os.Getenv("OCP_SIGNATURE_VERIFICATION_PK")); file != "" {
		var err error
		if o.request.Keys, _, err = armoredKeys(file); err != nil {
			return hint.New(fmt.Errorf("the key of releases %s: %w", file, err), "name a file with armored OpenPGP public keys: --release-key FILE")
		}
	}
	if o.sign != "" {
		signer, closed, err := sshkey.Named(ctx, o.sign, os.Getenv("SSH_AUTH_SOCK"), func(ctx context.Context, prompt string) (string, error) { return passphrase(ctx, std, prompt) })
		defer closed()
		if err != nil {
			return hint.New(fmt.Errorf("the key that signs: %w", err), cmp.Or(hintOf(err), "name a key of SSH: a private one, or KEY.pub of one in the ssh agent"))
		}
		o.signer = signer
	}
	if o.state != "" {
		var err error
		if o.request.Cluster, err = readState(std, o.state); err != nil {
			return err
		}
	}
	var v api.Verdict
	err := o.ask(ctx, std, args, func(control *client.Client) (err error) {
		v, err = control.Ready(ctx, o.request, readyProgress(std.err))
		return err
	})
	if err == nil {
		err = o.print(std, v)
	}
	if err != nil {
		return err
	}
	return answered(v)
}

// print prints a verdict, or what was asked for of it.
func (o *readyOptions) print(std stdio, v api.Verdict) error {
	switch {
	case o.asImageSet:
		text, err := ready.ImageSet(v)
		if err == nil {
			_, err = std.out.Write(text)
		}
		return err
	case o.sign != "":
		sealed, err := ready.Seal(v, o.signer)
		if err != nil {
			return err
		}
		return printJSON(std.out, sealed)
	}
	return show(std.out, o.output, v, printVerdict)
}

// answered returns the error that has the exit code of a verdict.
func answered(v api.Verdict) error {
	switch v.Answer {
	case api.ReadyYes:
		return nil
	case api.ReadyRisks:
		return notReady{fmt.Errorf("ready, with %s", count(len(v.Risks), "risk")), exitRisks}
	}
	return notReady{fmt.Errorf("not ready: %s", count(len(v.Reasons), "reason")), exitNotReady}
}

// readState reads an export of a cluster.
func readState(std stdio, file string) (*state.Facts, error) {
	if file == "-" {
		return state.Read(std.in)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	facts, err := state.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return facts, nil
}

func readyProgress(w io.Writer) func(api.ReadyProgress) {
	say := nowAndThen(w)
	return func(p api.ReadyProgress) {
		switch {
		case p.Reads != "":
			say("reading %s", plain.Line(p.Reads))
			return
		case p.OfBytes > 0:
			say("%s of %s read", bytesOf(p.Bytes), bytesOf(p.OfBytes))
			return
		}
		say("%s: %d of %s", p.Release, p.Images, count(p.Of, "image"))
	}
}

// shownReasons is how many reasons with one code are printed; JSON has all.
const shownReasons = 10

func printVerdict(w io.Writer, v api.Verdict) {
	what := "can be installed from"
	if v.From != "" {
		what = "can be reached from " + v.From + " with"
	}
	if v.Answer == api.ReadyNo {
		what = strings.Replace(what, "can", "cannot", 1)
	}
	name := "OpenShift " + v.To
	if v.Architecture != "" {
		name += " for " + v.Architecture
	}
	fmt.Fprintf(w, "%s: %s %s %s\n", v.Answer, plain.Line(name), what, plain.Line(v.Registry))
	if len(v.Path) > 0 {
		way := v.From
		for _, h := range v.Path {
			way += " → " + h.To
		}
		fmt.Fprintf(w, "channel %s: %s\n", plain.Line(v.Channel), plain.Line(way))
	}
	printReasons(w, v.Reasons)
	printReasons(w, v.Risks)
	fmt.Fprintf(w, "looked at: %s, %s, %s (%s), %s", count(v.Images, "image"), count(v.Manifests, "manifest"), count(v.Blobs, "blob"), bytesOf(v.Bytes), count(v.Signatures, "valid signature"))
	if !v.ContentRead {
		fmt.Fprint(w, "; --content reads the blobs too")
	}
	fmt.Fprintln(w)
}

func printReasons(w io.Writer, all []api.Reason) {
	shown, of := map[string]int{}, map[string]int{}
	for _, r := range all {
		of[r.Code]++
	}
	for _, r := range all {
		if shown[r.Code]++; shown[r.Code] > shownReasons {
			continue
		}
		fmt.Fprintf(w, "- %s: %s\n  %s\n", r.Code, plain.Line(r.Text), plain.Line(r.Where))
		if r.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", typed(plain.Line(r.Hint)))
		}
		if shown[r.Code] == shownReasons && of[r.Code] > shownReasons {
			fmt.Fprintf(w, "- %s: and %d more, which -o json lists\n", r.Code, of[r.Code]-shownReasons)
		}
	}
}
