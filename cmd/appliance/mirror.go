package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/metadata"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// defaultRetryTimes is how often a request to a source is repeated.
const defaultRetryTimes = 5

// mirrorOptions are oc-mirror v2's flags, by its names.
type mirrorOptions struct {
	archiveOptions
	signatureOptions
	config         string
	set            loaded
	workspace      string
	dryRun         bool
	authFile       string
	srcVerify      bool
	destVerify     bool
	srcCertDir     string
	destCertDir    string
	registriesConf string // "": where podman looks
	parallelImages int
	parallelLayers int
	retryTimes     int
	imageTimeout   time.Duration
	logLevel       string
	output         string
	verbose        int
	maxNested      int
	listMembers    bool
	onlyThisRun    bool
	sourceNames    bool
	follow         bool
	keepPaths      bool
	prune          bool
	skipPruning    bool // of version 1
	skipCheck      bool // of version 1
	source         credentials
	destination    credentials
	foreign        foreignFlags
	plugin         bool // called as oc-mirror: its lines are printed
	locked         bool // the workspace, by the caller
	busy           *busy.Limits
	log            *slog.Logger
	sessions       string         // where uploads that break off are kept; "": nowhere
	near           *client.Client // of the appliance of this host; nil: the destination is dialed
}

func (o *mirrorOptions) addFlags(f *pflag.FlagSet) {
	f.VarP(&onceValue{pathValue: pathValue{&o.config}}, "config", "c", "the ImageSetConfiguration; - for standard input")
	pathVar(f, &o.workspace, "workspace", "",
		"file://DIR for what a run reads and writes besides images: cluster resources, logs")
	o.archiveOptions.addFlags(f)
	o.signatureOptions.addFlags(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan, write it to working-dir/dry-run/ (mapping.txt, cluster-resources/), and copy nothing")
	pathVar(f, &o.authFile, "authfile", "", "registry logins (default $REGISTRY_AUTH_FILE, then where podman login and docker login put them)")
	f.BoolVar(&o.srcVerify, "src-tls-verify", true, "verify the sources' certificates; false also allows plain HTTP")
	f.BoolVar(&o.destVerify, "dest-tls-verify", true,
		"verify the destination's certificate; false also allows plain HTTP")
	pathVar(f, &o.srcCertDir, "src-cert-dir", "",
		"directory of *.crt to trust for sources (default the usual certs.d directories)")
	pathVar(f, &o.destCertDir, "dest-cert-dir", "", "directory of *.crt to trust for the destination (default the usual certs.d directories)")
	f.IntVar(&o.parallelImages, "parallel-images", mirror.DefaultParallelImages,
		"images copied at the same time, 1 to 10")
	f.IntVar(&o.parallelLayers, "parallel-layers", mirror.DefaultParallelLayers,
		"layers of one image copied at the same time, 1 to 10")
	o.retryTimes = defaultRetryTimes
	f.Var(countValue{&o.retryTimes}, "retry-times", "how often a request to a source is repeated")
	f.DurationVar(&o.imageTimeout, "image-timeout", mirror.DefaultImageTimeout,
		"fail an image that makes no progress for so long: no byte, no answer (0: never)")
	f.StringVar(&o.logLevel, "log-level", "info", "info, debug, trace or error")
	addOutputFlag(f, &o.output)
	f.IntVarP(&o.verbose, "verbose", "v", 0, "as oc-mirror v1 has it: 1 or more is --log-level debug")
	f.Lookup("verbose").Hidden = true
	f.BoolVar(&o.listMembers, "dry-run-manifest-lists", false,
		"--dry-run, with a line in mapping.txt for each member of a manifest list")
	f.IntVar(&o.maxNested, "max-nested-paths", 0,
		"path components that the destination takes; more are joined with - (0: any number)")
	f.BoolVar(&o.follow, "follow-dependencies", false, "mirror the operators too that the listed ones require")
	f.BoolVar(&o.keepPaths, "keep-upgrade-paths", false,
		"of channels of which only the head is asked for, mirror from the head of the first run with this flag on: clusters can upgrade from it (the workspace remembers it)")
	f.BoolVar(&o.prune, "prune", false,
		"after a run in which nothing fails, delete what the workspace has mirrored there and no image set of it asks for any more (--dry-run lists it)")
	f.BoolVar(&o.sourceNames, "default-source-names", false,
		"name the CatalogSources of Red Hat's catalogs as a cluster's default ones, which Subscriptions use (redhat-operators, ...)")
	f.BoolVar(&o.onlyThisRun, "only-this-run", false,
		"write cluster resources for the images of this run, not for all that the workspace has mirrored")
	o.source.addFlags(f, "src", "screds")
	o.destination.addFlags(f, "dest", "dcreds")
	o.foreign.declare(f, foreignOCMirrorFlags)
	f.Lookup("tls-verify").NoOptDefVal = "true"
}

// newMirrorCommand returns the command mirror, or oc's plugin.
func newMirrorCommand(std stdio, plugin bool) *cobra.Command {
	o := mirrorOptions{plugin: plugin}
	c := &cobra.Command{
		Use:   "mirror -c FILE docker://HOST:PORT[/PATH]|file://DIR [--workspace file://DIR|--from file://DIR]",
		Short: "Fill a registry, or an archive for one, from an image set configuration",
		Long: `Fill a registry from an image set configuration, as oc-mirror v2 has it: straight, or across a gap by an
archive, file://DIR on the connected side and --from file://DIR on the other. What is held already is not
fetched again, so a second run is a resume. Into an appliance everything becomes visible together, at the end.

A configuration of oc-mirror v1, or --v1, selects version 1, with its flags: --dir DIR, --skip-pruning,
--skip-metadata-check, --source-use-http, --source-skip-tls, --dest-use-http, --dest-skip-tls, --manifests-only.

Exit codes, as oc-mirror's: 0 everything that was planned is there and verified, and what is not signed is
listed; else the sum of
1 an error of the run, 2 a release, 4 an operator, 8 an additional image, 16 a Helm chart or an image of one.`,
		Example: `  appliance mirror -c imageset.yaml docker://registry.example.com:8443 --workspace file:///data/mirror
  appliance mirror -c imageset.yaml file:///data/archive
  appliance mirror -c imageset.yaml --from file:///media/usb docker://registry.example.com:8443`,
		Args: func(c *cobra.Command, args []string) error {
			if other := beside(c, args); other != nil {
				return hint.New(fmt.Errorf("%s is no command of %s", other.Name(), c.CommandPath()), other.CommandPath()+" is: "+other.CommandPath()+" --help")
			}
			return takes(1, "one destination, such as docker://registry.example.com:8443")(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.foreign.check(c, std.err); err != nil {
				return err
			}
			if err := o.readAliases(c.Flags()); err != nil {
				return err
			}
			o.loadImageSet(c.Flags())
			if !o.set.v1 {
				return runMirror(c.Context(), std, o, args[0])
			}
			err := o.readV1(c.Context(), c.Flags(), args[0])
			if err == nil {
				err = runMirror(c.Context(), std, o, args[0])
			}
			if err != nil {
				return errorV1{err}
			}
			return nil
		},
	}
	o.addFlags(c.Flags())
	addOCMirror(c, std.plain())
	c.AddCommand(newResourcesCommand(std.plain()), newPruneCommand(std.plain()))
	if !plugin {
		c.SetHelpFunc(func(c *cobra.Command, args []string) {
			if other := beside(c, c.Flags().Args()); other != nil {
				other.InitDefaultHelpFlag() // which is made when a command is run
				c = other
			}
			c.Root().HelpFunc()(c, args)
		})
	}
	return c
}

// beside returns the command beside mirror that its argument names, such as drift; nil for an argument of
// its own.
func beside(c *cobra.Command, args []string) *cobra.Command {
	if len(args) == 0 || c.Name() != "mirror" || !c.HasParent() {
		return nil
	}
	for _, other := range c.Parent().Commands() {
		if other.Name() == args[0] {
			return other
		}
	}
	return nil
}

// check rejects flags that contradict each other, in the words and the order of oc-mirror, which
// scripts know.
func (o *mirrorOptions) check(destination string) error {
	if o.config == "" {
		return hint.New(errors.New("use the --config flag it is mandatory"), "-c imageset.yaml")
	}
	if err := o.checkSources(destination); err != nil {
		return err
	}
	if o.dryRun && o.listMembers {
		return errors.New("--dry-run and --dry-run-manifest-lists cannot be used together")
	}
	if err := mirror.CheckParallel(o.parallelImages, o.parallelLayers); err != nil {
		return err
	}
	if err := o.checkPlaces(destination); err != nil {
		return err
	}
	if _, err := o.level(); err != nil {
		return err
	}
	// From here on, what oc-mirror does not have or does not check.
	if err := o.archiveOptions.check(destination); err != nil {
		return err
	}
	if err := o.signatureOptions.check(); err != nil {
		return err
	}
	if o.imageTimeout < 0 {
		return errors.New("--image-timeout must not be negative")
	}
	if err := o.checkPrune(destination); err != nil {
		return err
	}
	if o.maxNested < 0 {
		return errors.New("--max-nested-paths must not be negative")
	}
	for _, c := range []*credentials{&o.source, &o.destination} {
		if _, err := c.keychain(o.authFile); err != nil {
			return err
		}
	}
	return nil
}

// checkPlaces checks the destination and the workspace.
func (o *mirrorOptions) checkPlaces(destination string) error {
	toDisk, toRegistry := strings.HasPrefix(destination, "file://"), strings.HasPrefix(destination, "docker://")
	switch {
	case toDisk && o.workspace != "":
		return errors.New("when destination is file://, mirrorToDisk workflow is assumed, and the --workspace argument is not needed")
	case toRegistry && len(o.from) == 0 && o.workspace == "":
		return hint.New(
			errors.New("when destination is docker://, either --from (assumes disk to mirror workflow) or --workspace (assumes mirror to mirror workflow) need to be provided"),
			"--workspace file:///data/mirror")
	case !toDisk && !toRegistry:
		return hint.New(
			errors.New("destination must have either file:// (mirror to disk) or docker:// (diskToMirror) protocol prefixes"),
			"for example docker://registry.example.com:8443")
	case o.workspace != "" && !strings.HasPrefix(o.workspace, "file://"):
		return hint.New(errors.New("when --workspace is used, it must have file:// prefix"),
			"--workspace file://"+o.workspace)
	case o.workspace == "file://":
		return hint.New(errors.New("--workspace names no directory"), "--workspace file:///data/mirror")
	}
	return nil
}

func (o *mirrorOptions) level() (slog.Level, error) {
	switch o.logLevel {
	case "info":
		if o.verbose > 0 {
			return slog.LevelDebug, nil
		}
		return slog.LevelWarn, nil // retries; what is done is printed, not logged
	case "debug", "trace":
		return slog.LevelDebug, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, errors.New("invalid log-level, it should be one of (info,debug,trace,error)")
}

func runMirror(ctx context.Context, std stdio, o mirrorOptions, argument string) (err error) {
	if err := o.check(argument); err != nil {
		return err
	}
	level, err := o.level()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level, ReplaceAttr: plain.Attr}))
	o.busy, o.log = busy.New(nil, log), log
	destinationKeys, err := o.destination.keychain(o.authFile)
	if err != nil {
		return err
	}
	run, done, err := o.reads(ctx, log)
	if err != nil {
		return err
	}
	defer done()
	progress := newProgress(std, o.output == "json", o.plugin)
	progress.hello(o.mode(argument))
	defer progress.goodbye()
	run.Workspace, run.Locked, run.Events = o.workspaceDir(), o.locked, progress.event
	run.Beside = o.beside
	end, err := o.connect(ctx, argument, destinationKeys, &run, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	held := o.holds(argument, destinationKeys, &run)
	defer held()
	past, done, err := o.goOn(ctx, argument, destinationKeys, &run)
	if errors.As(err, new(metadata.SameError)) && len(o.from) > 0 {
		progress.say("No diff from previous mirror (sequence is the same), nothing to do")
		progress.say("note: where images were deleted since, --skip-metadata-check mirrors from the archive again")
		return nil
	}
	if err != nil {
		return err
	}
	defer done()
	if o.ignoreRelease && run.Config.Mirror.Platform.Release == "" {
		progress.say("note: --ignore-release-signature is about platform.release, which the image set does not have")
	}
	if !o.secure && o.policy+o.registries != "" {
		progress.say("note: --policy and --registries.d change nothing without --secure-policy: signatures are mirrored wherever they are")
	}
	progress.say("planning")
	if o.dryRun || o.listMembers {
		return dryRun(ctx, std, run, progress)
	}
	next, err := mirrorAll(ctx, run, progress)
	if err == nil {
		err = past.write(ctx, next)
	}
	if err == nil && run.ToArchive {
		progress.archived(run.Workspace)
	}
	return err
}

// reads returns a run without a destination: what is mirrored, and how its sources are read. done
// closes what reads them.
func (o *mirrorOptions) reads(ctx context.Context, log *slog.Logger) (run mirror.Options, done func(), err error) {
	config, err := o.imageSet()
	if err != nil {
		return run, nil, err
	}
	keys, err := o.source.keychain(o.authFile)
	if err != nil {
		return run, nil, err
	}
	get := fetch.Client{HTTP: fetch.NewHTTPClient(o.srcVerify)}
	signatures, err := o.signatures(get)
	if err != nil {
		return run, nil, err
	}
	ends, err := versionFilter()
	if err != nil {
		return run, nil, err
	}
	service, err := updateService()
	if err != nil {
		return run, nil, err
	}
	from, err := o.openSources(ctx, keys, log)
	if err != nil {
		return run, nil, err
	}
	documents, charts := &documents{o: o}, &helmProgram{}
	return mirror.Options{
			Config:         config,
			Open:           from.open,
			Graph:          updategraph.Client{URL: service, HTTP: get.HTTP, Ends: ends},
			Signatures:     signatures,
			Charts:         mirror.Charts{Fetch: documents.fetch, Keychain: keys, Render: helm.Process(charts.command)},
			MaxNestedPaths: o.maxNested, ListMembers: o.listMembers, OnlyThisRun: o.onlyThisRun,
			DefaultSourceNames: o.sourceNames, FollowDependencies: o.follow, KeepUpgradePaths: o.keepPaths,
			ParallelImages: o.parallelImages, ParallelLayers: o.parallelLayers,
			ImageTimeout: o.imageTimeout, Version: version, Log: log,
		}, func() {
			charts.close()
			documents.close()
			from.close()
			get.HTTP.CloseIdleConnections()
		}, nil
}

// versionFilter returns the pattern of the releases that a channel's head may be, nil for none.
func versionFilter() (*regexp.Regexp, error) {
	text := os.Getenv("VERSION_FILTER")
	if text == "" {
		return nil, nil
	}
	filter, err := regexp.Compile(text)
	if err != nil {
		return nil, hint.New(fmt.Errorf("VERSION_FILTER is %q, which is not a regular expression: %w", text, err),
			`for example ^4\.18\.[0-9]+$, or unset it`)
	}
	return filter, nil
}

// mode returns oc-mirror's name for where a run reads and writes.
func (o *mirrorOptions) mode(argument string) string {
	switch {
	case strings.HasPrefix(argument, "file://"):
		return "mirrorToDisk"
	case len(o.from) > 0:
		return "diskToMirror"
	}
	return "mirrorToMirror"
}

// connect gives a run its destination, and its sources if those are archives. Both are asked first:
// a missing login or a damaged chunk is found before an hour of planning and not after it.
func (o *mirrorOptions) connect(ctx context.Context, argument string, keys authn.Keychain,
	run *mirror.Options, progress *progress) (end func() error, err error) {
	if strings.HasPrefix(argument, "file://") {
		progress.say("mirroring into an archive, %s", argument)
		if o.maxNested > 0 {
			progress.say("note: --max-nested-paths changes nothing in an archive: give it where the archive is mirrored from")
			run.MaxNestedPaths = 0
		}
		return o.toArchive(argument, run, o.dryRun || o.listMembers, progress.say)
	}
	if run.Registry, run.Prefix, err = mirror.ParseDestination(argument); err != nil {
		return nil, err
	}
	closeSources := func() error { return nil }
	if len(o.from) > 0 {
		if o.since != "" {
			progress.say("note: --since changes nothing when an archive is imported")
		}
		if closeSources, err = o.fromArchives(ctx, run); err != nil {
			return nil, err
		}
	}
	progress.host = run.Registry
	o.sessions = filepath.Join(run.Workspace, ".appliance.uploads") // beside working-dir, which goes into archives
	destination, err := o.openDestination(ctx, run.Registry, run.Prefix, keys)
	if err != nil {
		return nil, errors.Join(err, closeSources())
	}
	run.Begin, run.Served = destination.begin, destination.served
	progress.verified(run.Registry)
	progress.say("mirroring into %s, %s", argument, destination.kind)
	return func() error {
		destination.close()
		return closeSources()
	}, nil
}

// mirrorAll prints the report, and returns what is to be remembered of a mirror of version 1. Of a run
// with failed images there is an error too.
func mirrorAll(ctx context.Context, run mirror.Options, progress *progress) (*metadata.Metadata, error) {
	run.Pin = true // the daemon's schedule would fill its disk with them
	report, err := mirror.Run(ctx, run)
	progress.stop()
	if report == nil {
		return nil, err
	}
	progress.json.report(report)
	progress.pruned(report, nil, "")
	progress.results(report)
	return report.Next, err
}

// dryRun prints the plan. Of a plan that lacks images there is an error too.
func dryRun(ctx context.Context, std stdio, run mirror.Options, progress *progress) error {
	p, mapping, err := mirror.DryRun(ctx, run)
	if p == nil {
		return err
	}
	progress.json.plan(p)
	if progress.json == nil {
		for _, i := range p.Images {
			fmt.Fprintln(std.out, plain.Line(fmt.Sprintf("%s=docker://%s/%s:%s",
				i.Reference.Location(), p.Registry, i.Repository, i.Tag)))
		}
	}
	progress.plan(p, len(p.Images))
	for _, f := range p.Failures {
		progress.failure(f)
	}
	progress.unsigned(plan.Unsigned(p.Images))
	progress.pruned(nil, p.Prune, p.Registry)
	progress.say("nothing was copied; the list is in %s", mapping)
	progress.listed(mapping, len(p.Images), run.ToArchive)
	return err
}

// workspaceDir returns the directory of working-dir, which --workspace may also name itself, or ""
// without that flag.
func (o *mirrorOptions) workspaceDir() string {
	if o.workspace == "" {
		return ""
	}
	return strings.TrimSuffix(filepath.Clean(strings.TrimPrefix(o.workspace, "file://")), "/working-dir")
}
