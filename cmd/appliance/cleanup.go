package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

const cleanupUsage = "remove what is left of the mirror-registry that was taken over: containers, units and what it has made in its directories"

// cleanup removes what is left of a mirror-registry that was taken over. Its content goes when the user
// agrees, or with approved when the appliance has all of it.
func (o *installOptions) cleanup(ctx context.Context, std stdio, request installer.Request, approved bool) error {
	quay, findErr := adopt.FindRest(ctx, unitDir(), installer.RetiredSuffix)
	request.RemoveContent = true
	plan, err := installer.PlanCleanup(ctx, request, installerDeps(), quay)
	if err != nil {
		return err
	}
	if len(plan.Describe()) == 0 {
		fmt.Fprintln(std.out, "nothing is left of a mirror-registry that was taken over")
		return nil
	}
	missing, err := o.notTakenOver(ctx, std, quay, findErr)
	if err != nil {
		return hint.New(fmt.Errorf("compare the mirror-registry with the appliance: %w", err),
			cmp.Or(hint.Of(err), "see that the appliance runs: appliance status"))
	}
	warn(std.err, plan.Warnings)
	if o.dryRun || !approved {
		if err := describe(ctx, std.out, plan); err != nil {
			return err
		}
	}
	listSome(std.out, "stays: ", plan.Stays)
	listSome(std.out, "not taken over: ", missing)
	if o.dryRun {
		return nil
	}
	containers, err := withoutContent(ctx, request, quay)
	if err != nil {
		return err
	}
	content := len(missing) == 0
	if !approved {
		if content, err = cleanupAgreed(ctx, std, plan, containers, quay.Root, len(missing)); err != nil {
			return err
		}
	}
	if !content {
		plan = containers
	}
	if _, err := plan.Apply(ctx, func(line string) { fmt.Fprintln(std.err, line) }); err != nil {
		return hint.New(err, cmp.Or(hint.Of(err), "the same command again goes on"))
	}
	if content {
		return reportCleaned(ctx, std, plan)
	}
	return reportStays(std, quay.Root, len(containers.Describe()) > 0, approved, len(missing))
}

// withoutContent plans to remove what podman has, and no more.
func withoutContent(ctx context.Context, request installer.Request, quay adopt.QuayInstall) (*installer.Plan, error) {
	request.RemoveContent = false
	return installer.PlanCleanup(ctx, request, installerDeps(), quay)
}

// cleanupAgreed asks what may go, and returns whether the content may.
func cleanupAgreed(ctx context.Context, std stdio, plan, containers *installer.Plan, root string, missing int) (content bool, err error) {
	answers, root := bufio.NewReader(std.in), plain.Line(root)
	if len(containers.Describe()) > 0 {
		if err := consent(ctx, std.out, answers, "Remove the containers of the mirror-registry in "+root+"?"); err != nil {
			return false, err
		}
	}
	question := "Remove the retired units of the mirror-registry in " + root
	if plan.Loses != "" {
		question += ", and what it has made in its directories and volumes"
		if missing > 0 {
			question += fmt.Sprintf(", with %s that the appliance does not have", count(missing, "item"))
		}
		question += ": " + plan.Loses
	}
	return agrees(ctx, std.out, answers, question+"?")
}

func listSome[T any](w io.Writer, what string, all []T) {
	const most = 20
	for i, item := range all {
		if i == most {
			fmt.Fprintf(w, "and %d more\n", len(all)-most)
			return
		}
		fmt.Fprintln(w, what+plain.Line(fmt.Sprint(item)))
	}
}

func reportCleaned(ctx context.Context, std stdio, plan *installer.Plan) error {
	remaining, err := plan.Remaining(ctx)
	if err != nil {
		return err
	}
	done := "the mirror-registry that was taken over has been removed"
	if len(remaining) > 0 {
		done += ", except for what stays"
	}
	fmt.Fprintln(std.out, done)
	listSome(std.out, "stays: ", remaining)
	return nil
}

// reportStays tells that the content is still there.
func reportStays(std stdio, root string, containers, approved bool, missing int) error {
	if approved {
		return hint.New(fmt.Errorf("%s stays: the appliance does not have %s of it", plain.Line(root), count(missing, "item")),
			"take over what it lacks: appliance adopt "+root+"; then the same command again. Or run it without --autoApprove, and be asked")
	}
	done := "nothing has been removed"
	if containers {
		done = "the containers have been removed"
	}
	fmt.Fprintf(std.out, "%s; %s stays, and the retired units that lead to it: the same command asks again\n", done, plain.Line(root))
	return nil
}

// notTakenOver lists what a mirror-registry has and the appliance lacks, and has the appliance take what is
// damaged there, unless it is a dry run. What cannot be looked at may be lacking.
func (o *installOptions) notTakenOver(ctx context.Context, std stdio, quay adopt.QuayInstall, findErr error) (missing []adopt.Problem, err error) {
	switch {
	case findErr != nil:
		return []adopt.Problem{{Repository: "*", Name: "*", What: findErr.Error()}}, nil
	case fileExists(quay.Database):
	case quay.HasBlobs():
		what := fmt.Sprintf("there are images in %s, and the database that tells of them is missing: %s", quay.Storage, quay.Database)
		return []adopt.Problem{{Repository: "*", Name: "*", What: what}}, nil
	default: // a cleanup that was interrupted has removed both
		return nil, nil
	}
	source, done, err := openRest(ctx, quay)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	return missing, withControl(ctx, std, new(locateOptions), func(control *client.Client) error {
		missing, err = o.compare(ctx, std, control, source, quay.Root)
		return err
	})
}

// openRest opens a mirror-registry whose images may be removed already. done closes it.
func openRest(ctx context.Context, quay adopt.QuayInstall) (source *adopt.Quay, done func() error, err error) {
	remove := func() error { return nil }
	if quay.Storage == "" || !fileExists(quay.Storage) {
		if quay.Storage, err = os.MkdirTemp("", "appliance-cleanup-"); err != nil {
			return nil, nil, err
		}
		remove = func() error { return os.Remove(quay.Storage) }
	}
	if source, err = quay.Open(ctx); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return source, func() error { return errors.Join(source.Close(), remove()) }, nil
}

func (o *installOptions) compare(ctx context.Context, std stdio, control *client.Client, source adopt.Source, root string) (missing []adopt.Problem, err error) {
	id, err := new(locateOptions).load()
	if err != nil {
		return nil, err
	}
	if err := notInto(id.Config.Storage); err != nil {
		return nil, err
	}
	storage, err := os.OpenRoot(id.Config.Storage)
	if err != nil {
		return nil, err
	}
	defer storage.Close()
	existing, err := tagsOf(ctx, control)
	if err != nil {
		return nil, err
	}
	run, err := control.BeginSync(ctx, "compare "+root)
	if err != nil {
		return nil, err
	}
	say := nowAndThen(std.err)
	c := adopt.Comparison{Run: run, Existing: existing, Storage: storage, BlobName: blobfile.Name, Mend: !o.dryRun,
		Progress: func(read, of int64) { say("read %s of %s that the appliance has", bytesOf(read), bytesOf(of)) }}
	result, err := c.Compare(ctx, source)
	if err = errors.Join(err, run.Abort(context.WithoutCancel(ctx))); err != nil {
		return nil, err
	}
	for _, d := range result.Mended {
		fmt.Fprintf(std.err, "blob %s was damaged in the appliance; the mirror-registry's copy has taken its place\n", d)
	}
	damaged, err := damagedManifests(ctx, control)
	return append(result.Missing, damaged...), err
}

// damagedManifests lists the manifests that the appliance cannot rely on.
func damagedManifests(ctx context.Context, control *client.Client) (problems []adopt.Problem, err error) {
	report, err := control.Verify(ctx, api.VerifyRequest{}, nil)
	for _, p := range report.Problems {
		if p.Kind == "manifest" || p.Kind == "database" {
			problems = append(problems, adopt.Problem{Repository: "*", Name: p.Name, What: "in the appliance, " + p.What})
		}
	}
	return problems, err
}
