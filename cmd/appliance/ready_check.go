package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/ready"
)

// maxVerdict bounds the file of a verdict.
const maxVerdict = 64 << 20

// runReadyCheck checks a verdict that was given before.
func runReadyCheck(ctx context.Context, std stdio, o readyOptions, args []string) error {
	given, err := o.given()
	if err != nil {
		return err
	}
	var now api.Verdict
	err = o.ask(ctx, std, args, func(control *client.Client) (err error) {
		now, err = control.Ready(ctx, api.ReadyRequest{Unchanged: &given.Basis, Architectures: given.Nodes}, nil)
		return err
	})
	switch {
	case err != nil:
		return err
	case now.Registry != given.Registry:
		return hint.New(fmt.Errorf("the verdict was given for %s, and this is %s", given.Registry, now.Registry), "name the appliance: docker://"+given.Registry)
	}
	if err := show(std.out, o.output, checked{*given, now.Reasons}, printChecked); err != nil {
		return err
	}
	if now.Answer != api.ReadyYes {
		return notReady{fmt.Errorf("the verdict does not hold any more: %s", count(len(now.Reasons), "reason")), exitNotReady}
	}
	return answered(given.Verdict)
}

// given reads the verdict, and the keys that may have signed it.
func (o *readyOptions) given() (*ready.Opened, error) {
	text, err := regular.ReadFileUpTo(o.check, maxVerdict)
	if err != nil {
		return nil, hint.New(fmt.Errorf("the verdict %s: %w", o.check, regular.Reason(err)), "name what appliance ready -o json, or --sign, has written")
	}
	var allowed []byte
	if o.allowed != "" {
		if allowed, err = regular.ReadFile(o.allowed); err != nil {
			return nil, hint.New(fmt.Errorf("the allowed signers %s: %w", o.allowed, regular.Reason(err)), "name a file of lines: NAME KEY, such as: ops ssh-ed25519 AAAA…")
		}
	}
	given, err := ready.Open(text, allowed, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.check, err)
	}
	return given, nil
}

// checked is a verdict that was given before, with what has changed since.
type checked struct {
	Given   ready.Opened `json:"given"`
	Changed []api.Reason `json:"changed"`
}

func printChecked(w io.Writer, c checked) {
	signed := "it is not signed"
	switch {
	case c.Given.Signer != "":
		signed = "signed by " + c.Given.Signer + ", key " + c.Given.Key
	case c.Given.Key != "":
		signed = "signed by key " + c.Given.Key + ", which was not compared with any: --allowed-signers FILE"
	}
	fmt.Fprintf(w, "given %s, %s\n", when(c.Given.Made), plain.Line(signed))
	if len(c.Changed) == 0 {
		fmt.Fprintln(w, "its releases with their images, the graph data and the catalogs are here as they were")
	}
	printReasons(w, c.Changed)
	printVerdict(w, c.Given.Verdict)
}
