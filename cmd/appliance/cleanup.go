package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const cleanupUsage = "remove what is left of the mirror-registry that was taken over: containers and, when asked, directories"

// cleanup removes what is left of a mirror-registry that was taken over. Its directories go when the user
// agrees, who is shown them, and never for approved alone: files of others may lie in them.
func (o *installOptions) cleanup(ctx context.Context, std stdio, request installer.Request, approved bool) error {
	quay, findErr := adopt.FindQuay(ctx, unitDir(), installer.RetiredSuffix) // without its directory, the units are left
	request.RemoveContent = true
	plan, err := installer.PlanCleanup(ctx, request, installerDeps(), quay)
	if err != nil {
		return err
	}
	if len(plan.Describe()) == 0 {
		fmt.Fprintln(std.out, "nothing is left of a mirror-registry that was taken over")
		return nil
	}
	missing, err := notTakenOver(ctx, std, quay, findErr)
	if err != nil {
		return hint.New(fmt.Errorf("compare the mirror-registry with the appliance: %w", err),
			cmp.Or(hint.Of(err), "see that the appliance runs: appliance status"))
	}
	if o.dryRun || !approved {
		warn(std.err, plan.Warnings)
		if err := describe(ctx, std.out, plan); err != nil {
			return err
		}
	}
	listMissing(std.out, missing)
	if o.dryRun {
		return nil
	}
	if request.RemoveContent, err = cleanupAgreed(ctx, std, plan.Loses, quay.Root, missing, approved); err != nil {
		return err
	}
	if plan, err = installer.PlanCleanup(ctx, request, installerDeps(), quay); err != nil {
		return err
	}
	if _, err := plan.Apply(ctx, func(line string) { fmt.Fprintln(std.err, line) }); err != nil {
		return hint.New(err, cmp.Or(hint.Of(err), "the same command again goes on"))
	}
	return reportCleanup(std, quay.Root, missing, request.RemoveContent, approved)
}

// cleanupAgreed asks what may go, and returns whether the content may.
func cleanupAgreed(ctx context.Context, std stdio, loses, root string, missing []adopt.Problem, approved bool) (content bool, err error) {
	if approved {
		return false, nil
	}
	answers := bufio.NewReader(std.in)
	if err := consent(ctx, std.out, answers, "Remove the containers of the mirror-registry in "+plain.Line(root)+"?"); err != nil {
		return false, err
	}
	if loses == "" {
		return false, nil
	}
	fmt.Fprintln(std.out, "That the appliance has the images was seen, and its copies were not read: appliance verify --content does that.")
	question := fmt.Sprintf("Remove its units, directories and volumes as well, with all that lies in them: %s?", loses)
	if len(missing) > 0 {
		question = fmt.Sprintf("Remove its units, directories and volumes as well, with %s that the appliance does not have: %s?",
			count(len(missing), "item"), loses)
	}
	return agrees(ctx, std.out, answers, question)
}

func listMissing(w io.Writer, missing []adopt.Problem) {
	const most = 20
	for i, p := range missing {
		if i == most {
			fmt.Fprintf(w, "and %d more\n", len(missing)-most)
			return
		}
		fmt.Fprintf(w, "not taken over: %s\n", plain.Line(p.String()))
	}
}

func reportCleanup(std stdio, root string, missing []adopt.Problem, content, approved bool) error {
	switch {
	case !content && approved && len(missing) > 0:
		return hint.New(fmt.Errorf("%s stays: the appliance does not have %s of it", plain.Line(root), count(len(missing), "item")),
			"take them over: appliance adopt "+root+"; or remove that directory yourself")
	case !content:
		fmt.Fprintf(std.out, "%s stays, and its retired units: without --autoApprove the same command asks for them\n", plain.Line(root))
		return nil
	case fileExists(root):
		fmt.Fprintf(std.out, "%s stays, with what the mirror-registry has not made or was to keep\n", plain.Line(root))
	}
	fmt.Fprintln(std.out, "the mirror-registry that was taken over has been removed")
	return nil
}

// notTakenOver lists what a mirror-registry has and the appliance lacks. What cannot be looked at may be lacking.
func notTakenOver(ctx context.Context, std stdio, quay adopt.QuayInstall, findErr error) (missing []adopt.Problem, err error) {
	switch {
	case !fileExists(quay.Database): // a cleanup that was interrupted has removed it
		return nil, nil
	case findErr != nil:
		return []adopt.Problem{{Repository: "*", Name: "*", What: findErr.Error()}}, nil
	}
	source, err := quay.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return missing, withControl(ctx, std, new(locateOptions), func(control *client.Client) error {
		existing, err := tagsOf(ctx, control)
		if err != nil {
			return err
		}
		run, err := control.BeginSync(ctx, "compare "+quay.Root)
		if err != nil {
			return err
		}
		missing, err = adopt.Missing(ctx, source, run, existing)
		return errors.Join(err, run.Abort(context.WithoutCancel(ctx)))
	})
}
