package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/remote"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// deleteOptions are oc-mirror's flags of delete, and gc.
type deleteOptions struct {
	mirrorOptions
	generate bool
	v1       bool
	id, list string
	force    bool
	gc       bool
}

func newDeleteCommand(std stdio) *cobra.Command {
	var o deleteOptions
	c := &cobra.Command{
		Use:   "delete {--generate -c FILE --workspace file://DIR | --delete-yaml-file FILE} docker://HOST:PORT[/PATH]",
		Short: "Delete what a DeleteImageSetConfiguration names: list it, then delete the list",
		Long: `Delete images in two steps. --generate lists what a DeleteImageSetConfiguration means, by what the runs of
the workspace have kept, and says how much of it is at the registry; nothing is deleted. Then
--delete-yaml-file deletes the images of the list, with their signatures.

Images that another image set of the workspace has mirrored too are refused, unless with --force. At an
appliance, what other workspaces, its sync jobs, catalogs and views need stays and is listed, unless with
--force in both steps. Content that other images of the workspace need stays, and what is not there is done.`,
		Example: `  appliance delete --generate -c delete.yaml --workspace file:///data/mirror docker://registry.example.com:8443
  appliance delete --delete-yaml-file /data/mirror/working-dir/delete/delete-images.yaml docker://registry.example.com:8443 --gc`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.force = isSet(c.Flags(), "force")
			if isSet(c.Flags(), "force-cache-delete") || isSet(c.Flags(), "delete-signatures") {
				fmt.Fprintln(std.err, "note: there is no cache to delete from, and signatures are always deleted with their images")
			}
			return runDelete(c.Context(), std, o, args)
		},
	}
	f := c.Flags()
	o.addCommon(f)
	f.BoolVar(&o.generate, "generate", false, "list what -c FILE means, and delete nothing")
	f.StringVar(&o.id, "delete-id", "", "a part of the name of the list")
	pathVar(f, &o.list, "delete-yaml-file", "", "the list to delete")
	f.BoolVar(&o.gc, "gc", false, "then free the space, at an appliance")
	hide(f, "force-cache-delete", true)
	hide(f, "delete-signatures", true)
	f.BoolVar(&o.v1, "delete-v1-images", false, "with --generate: list images by the tags that oc-mirror v1 gave them")
	f.Lookup("force").Usage = "list and delete also what other image sets, and others at an appliance, need"
	for _, flag := range []string{"config", "workspace", "dest-tls-verify", "dest-cert-dir",
		"force", "output", "max-nested-paths"} {
		f.Lookup(flag).Hidden = false
	}
	return c
}

// check refuses flags that contradict each other, in oc-mirror's words.
func (o *deleteOptions) check(args []string) error {
	switch {
	case o.generate && o.workspace == "":
		return hint.New(errors.New("use the --workspace flag, it is mandatory when using the delete command with the --generate flag"), "--workspace file:///data/mirror")
	case o.generate && o.config == "":
		return hint.New(errors.New("the --config flag is mandatory when used with the --generate flag"), "-c delete.yaml")
	case !o.generate && o.list == "":
		return hint.New(errors.New("the --delete-yaml-file flag is mandatory when not using the --generate flag"), "--generate writes that file")
	case o.workspace != "" && (!strings.HasPrefix(o.workspace, "file://") || o.workspace == "file://"):
		return hint.New(errors.New("when --workspace is used, it must have file:// prefix"),
			"--workspace file:///data/mirror")
	case len(args) == 0:
		return hint.New(errors.New("the destination registry is missing in the command arguments"),
			"for example docker://registry.example.com:8443")
	case len(args) > 1:
		return fmt.Errorf("%q is not an argument of delete", args[1])
	case !strings.HasPrefix(args[0], "docker://"):
		return hint.New(errors.New("the destination registry argument must have a docker:// protocol prefix"), "docker://"+args[0])
	case !o.generate && o.v1:
		return hint.New(errors.New("the --delete-v1-images flag can only be used alongside the --generate flag"), "--generate writes the list, which --delete-yaml-file then deletes")
	case o.generate && o.gc:
		return hint.New(errors.New("--gc is for --delete-yaml-file: --generate deletes nothing"), "leave it out")
	}
	if !o.generate && o.workspace == "" { // the list is in working-dir/delete of its workspace
		if err := mirror.CheckDeleteList(o.list); err != nil {
			return err
		}
		dir, _, ok := strings.Cut(o.list, "/working-dir/delete/")
		if !ok {
			return hint.New(errors.New("the list is not in a workspace, so that it is not known what other images need"), "name the workspace of the runs: --workspace file:///data/mirror")
		}
		o.workspace = "file://" + dir
	}
	return nil
}

func runDelete(ctx context.Context, std stdio, o deleteOptions, args []string) error {
	if err := o.check(args); err != nil {
		return err
	}
	config := &imageset.Config{}
	var err error
	if o.generate {
		if config, err = imageset.LoadDelete(o.config); err != nil {
			return err
		}
	}
	keys, err := o.destination.keychain(o.authFile)
	if err != nil {
		return err
	}
	charts := &helmProgram{}
	defer charts.close()
	run := mirror.Options{
		Config: config, Workspace: o.workspaceDir(), MaxNestedPaths: o.maxNested, Version: version,
		Charts: mirror.Charts{Render: helm.Process(charts.command)},
		Log: slog.New(slog.NewTextHandler(std.err,
			&slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: plain.Attr})),
	}
	if run.Registry, run.Prefix, err = mirror.ParseDestination(args[0]); err != nil {
		return err
	}
	from, tlsConfig, err := o.pruner(ctx, run.Registry, run.Prefix, keys, run.Log)
	if err != nil {
		return err
	}
	defer from.registries.Close()
	if o.generate {
		d, err := mirror.PlanDelete(ctx, run, from, mirror.DeleteList{ID: o.id, V1: o.v1, Force: o.force})
		return errors.Join(err, o.planned(std, d))
	}
	d, err := mirror.Delete(ctx, run, from, o.list, o.force)
	if err := errors.Join(err, o.deleted(std, d)); err != nil || !o.gc {
		return err
	}
	return collectGarbage(ctx, std, run.Registry, run.Prefix, keys, tlsConfig)
}

// pruner is a registry that is read with retries, and deleted from.
type pruner struct {
	registries *upstream.Registries
	registry   string
	control    func(context.Context) (*client.Client, error)
	*remote.Run
}

// pruner returns the registry at a host, to be used with the login for what is below a prefix.
func (o *mirrorOptions) pruner(ctx context.Context, registry, prefix string, keys authn.Keychain,
	log *slog.Logger) (*pruner, *tls.Config, error) {
	files, err := upstream.TrustFiles(o.destCertDir, registry)
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := upstream.TLSConfig(files, !o.destVerify)
	if err != nil {
		return nil, nil, err
	}
	plainHTTP := false
	if !o.destVerify {
		if plainHTTP, err = upstream.AnswersPlain(ctx, registry); err != nil {
			return nil, nil, err
		}
	}
	limits := busy.New(nil, log)
	to, err := remote.Open(remote.Options{
		Registry: registry, PlainHTTP: plainHTTP, TLS: tlsConfig, Keychain: keys,
		UserAgent: "appliance/" + version, Busy: limits,
	})
	if err != nil {
		return nil, nil, err
	}
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{
			Registry: registry, SkipVerify: !o.destVerify, PlainHTTP: plainHTTP, Trust: files, Keychain: keys,
			UserAgent: "appliance/" + version, Retries: o.retryTimes, Busy: limits, Log: log,
		}, nil
	})
	control := func(ctx context.Context) (*client.Client, error) {
		if plainHTTP {
			return nil, unsupported{"it is not an appliance"}
		}
		return dialControl(ctx, registry, prefix, keys, tlsConfig.Clone())
	}
	return &pruner{registries, registry, control, to}, tlsConfig, nil
}

// holds lets a run into a registry read what that has. It is opened once something is to be read.
// The function returned closes it.
func (o *mirrorOptions) holds(destination string, keys authn.Keychain, run *mirror.Options) (done func()) {
	if !strings.HasPrefix(destination, "docker://") {
		return func() {}
	}
	var opened *pruner
	open := sync.OnceValues(func() (at *pruner, err error) {
		at, _, err = o.pruner(context.Background(), run.Registry, run.Prefix, keys, o.log)
		opened = at
		return at, err
	})
	run.Held = func(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
		at, err := open()
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		return at.Manifest(ctx, repo, ref)
	}
	if run.ArchiveV1 != nil {
		run.ArchiveV1.Blob = func(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error) {
			at, err := open()
			if err != nil {
				return nil, 0, err
			}
			return at.Blob(ctx, repo, d)
		}
	}
	return func() {
		if opened != nil {
			opened.registries.Close()
		}
	}
}

// Manifest implements mirror.Pruner.
func (p *pruner) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	r, err := p.registries.Repository(p.registry, repo)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return r.Manifest(ctx, ref)
}

// Tags lists the tags of a repository.
func (p *pruner) Tags(ctx context.Context, repo string) ([]string, error) {
	r, err := p.registries.Repository(p.registry, repo)
	if err != nil {
		return nil, err
	}
	return r.Tags(ctx)
}

// Needs returns what of some images the registry needs, if it is an appliance that takes the login for
// its control API.
func (p *pruner) Needs(ctx context.Context, workspace string, images []mirror.Place) ([]mirror.Need, error) {
	control, err := p.control(ctx)
	var refused *client.Refused
	switch {
	case errors.As(err, new(*client.NotApplianceError)):
		return nil, unsupported{"it is not an appliance"}
	case errors.As(err, &refused) && (refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden):
		return nil, unsupported{"the login is not that of a user of role admin"}
	case err != nil:
		return nil, err
	}
	defer control.Close()
	var places []api.Place
	for _, i := range images {
		places = append(places, api.Place(i))
	}
	needs, err := control.Needs(ctx, workspace, places)
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil, unsupported{"this appliance is of an older version"}
	}
	var all []mirror.Need
	for _, n := range needs {
		all = append(all, mirror.Need(n))
	}
	return all, err
}

// unsupported is the reason that a registry cannot tell what it needs.
type unsupported struct{ reason string }

func (e unsupported) Error() string { return e.reason }

// Is reports that the error is errors.ErrUnsupported.
func (e unsupported) Is(err error) bool { return err == errors.ErrUnsupported }

// Blob implements mirror.Pruner.
func (p *pruner) Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error) {
	r, err := p.registries.Repository(p.registry, repo)
	if err != nil {
		return nil, 0, err
	}
	return r.Blob(ctx, d)
}

// planned prints what would be deleted.
func (o *deleteOptions) planned(std stdio, d *mirror.Deletion) error {
	if d == nil {
		return nil
	}
	if o.output == "json" {
		return printJSON(std.out, d)
	}
	for _, w := range d.Warnings {
		fmt.Fprintln(std.out, plain.Line("warning: "+w))
	}
	for _, f := range d.Failures {
		fmt.Fprintln(std.out, plain.Line("failed: "+f.Image.Origin+": "+f.Error))
	}
	if len(d.Failures) > 0 {
		fmt.Fprintln(std.out, "image discovery finished with errors: the delete file might not be complete")
	}
	for _, i := range d.Items {
		fmt.Fprintln(std.out, plain.Line(i.ImageReference))
	}
	nested := ""
	if o.maxNested > 0 {
		nested = fmt.Sprintf("--max-nested-paths %d ", o.maxNested)
	}
	fmt.Fprintf(std.out, "%s, of which %d are not there; up to %s are freed when no other image uses them\nnothing was deleted; to delete them: appliance delete --delete-yaml-file %s %sdocker://…\n",
		count(len(d.Items), "image"), d.Absent, bytesOf(d.Bytes), plain.Line(d.File), nested)
	return nil
}

// deleted prints what was deleted.
func (o *deleteOptions) deleted(std stdio, d *mirror.Deleted) error {
	if d == nil {
		return nil
	}
	if o.output == "json" {
		return printJSON(std.out, d)
	}
	for _, k := range d.Needed {
		fmt.Fprintln(std.out, plain.Line(fmt.Sprintf("%s stays: %s needs it", k.ImageReference, k.For)))
	}
	for _, k := range d.Kept {
		fmt.Fprintln(std.out, plain.Line(fmt.Sprintf("deleted the tag of %s, and kept the content, which is that of %s",
			k.ImageReference, k.For)))
	}
	for _, f := range d.Failed {
		fmt.Fprintln(std.out, plain.Line(fmt.Sprintf("failed: %s: %s", f.ImageReference, f.Error)))
	}
	untagged := ""
	if len(d.Kept) > 0 {
		untagged = fmt.Sprintf(", and %s alone", count(len(d.Kept), "tag"))
	}
	fmt.Fprintf(std.out, "deleted %s%s; %d were not there\n", count(len(d.Deleted), "image"), untagged, len(d.Absent))
	if !o.gc {
		fmt.Fprintln(std.out, "Remember to execute a garbage collect (or similar) on your remote repository")
	}
	return nil
}

// collectGarbage frees the space at an appliance.
func collectGarbage(ctx context.Context, std stdio, address, prefix string, keys authn.Keychain, tlsConfig *tls.Config) error {
	control, err := dialControl(ctx, address, prefix, keys, tlsConfig)
	if err != nil {
		return hint.New(fmt.Errorf("the images are deleted, and their space is not freed: %w", err),
			"--gc is for an appliance, as a user of role admin; elsewhere collect the garbage as that registry does")
	}
	defer control.Close()
	var now api.Duration
	result, err := control.GC(ctx, api.GCRequest{GracePeriod: &now}, gcProgress(std.err))
	if err != nil {
		return err
	}
	return show(std.out, "", result, printGC)
}
