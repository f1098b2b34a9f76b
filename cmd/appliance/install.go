package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/store"
)

// placeOptions are the flags that install and uninstall share; their names are mirror-registry's.
type placeOptions struct {
	quayRoot      string
	quayStorage   string
	sqliteStorage string
	dryRun        bool
	verbose       bool
	output        string
}

// absolute resolves relative directories against the current one, as mirror-registry does.
func (o *placeOptions) absolute() error {
	if o.output != "" && !o.dryRun {
		return hint.New(errors.New("--output is the form of a plan, which --dry-run shows"), "add --dry-run, or leave --output out")
	}
	for _, dir := range []*string{&o.quayRoot, &o.quayStorage, &o.sqliteStorage} {
		if *dir == "" || s3url.Is(*dir) { // which the installer refuses
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	return nil
}

func (o *placeOptions) addFlags(f *pflag.FlagSet) {
	pathVar(f, &o.quayRoot, "quayRoot", "r", "install directory (default ~/quay-install)")
	pathVar(f, &o.quayStorage, "quayStorage", "", "directory of the image layers (default {quayRoot}/quay-storage)")
	pathVar(f, &o.sqliteStorage, "sqliteStorage", "", "directory of the database (default {quayRoot}/sqlite-storage)")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and do nothing")
	addOutputFlag(f, &o.output)
	f.Lookup("output").Usage = "with --dry-run: json for scripts"
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say beforehand what is going to be done")
}

// carryOut applies a plan, or shows it.
func (o *placeOptions) carryOut(ctx context.Context, std stdio,
	plan *installer.Plan) (result installer.Result, done bool, err error) {
	warn(std.err, plan.Warnings)
	if o.dryRun {
		return result, false, o.show(ctx, std.out, plan)
	}
	if o.verbose {
		if err := describe(ctx, std.err, plan); err != nil {
			return result, false, err
		}
	}
	result, err = plan.Apply(ctx, func(line string) { fmt.Fprintln(std.err, line) })
	return result, err == nil, err
}

// shownPlan is a plan for scripts.
type shownPlan struct {
	Steps     []string      `json:"steps"` // that have something to do, in order
	Warnings  []shownAdvice `json:"warnings"`
	Loses     string        `json:"loses,omitempty"`     // what cannot be had again
	Elsewhere []string      `json:"elsewhere,omitempty"` // what an uninstall leaves, since it is not this host's
}

type shownAdvice struct {
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// show shows a plan that is not applied.
func (o *placeOptions) show(ctx context.Context, w io.Writer, plan *installer.Plan) error {
	if o.output == "" {
		return describe(ctx, w, plan)
	}
	steps, err := plan.Pending(ctx)
	if err != nil {
		return err
	}
	all := shownPlan{Steps: append([]string{}, steps...), Warnings: []shownAdvice{}, Loses: plan.Loses, Elsewhere: plan.Elsewhere}
	for _, p := range plan.Warnings {
		all.Warnings = append(all.Warnings, shownAdvice{p.What, typed(p.Remedy)})
	}
	return printJSON(w, all)
}

// settle ends a move that was killed, see installer.Settle.
func (o *placeOptions) settle(ctx context.Context, std stdio, request installer.Request, all bool) error {
	if o.dryRun {
		return nil // which shows that it is in the way
	}
	return installer.Settle(ctx, request, installerDeps(), all, func(line string) { fmt.Fprintln(std.err, line) })
}

type installOptions struct {
	placeOptions
	hostname     string
	initUser     string
	initPassword string
	passwordFile string
	certificate  certificateOptions
	adopt        bool
	clean        bool
	follow       string
	first        firstOptions
	foreign      foreignFlags
	remote       remoteOptions
}

func (o *installOptions) addFlags(f *pflag.FlagSet) {
	o.placeOptions.addFlags(f)
	f.StringVar(&o.hostname, "quayHostname", "",
		"name, and optionally port, that clusters will use: HOST[:PORT] (default this host's name, port 8443)")
	f.StringVar(&o.initUser, "initUser", "", `name of the first administrator (default "init")`)
	f.StringVar(&o.initPassword, "initPassword", "",
		"its password, 8 characters or more without blanks (default: generated); "+
			"visible to other users of this host while the command runs, see --initPasswordFile")
	pathVar(f, &o.passwordFile, "initPasswordFile", "", "file whose first line is the password, - for standard input")
	o.certificate.addFlags(f)
	f.BoolVar(&o.adopt, "adopt", false, "take the place of the mirror-registry 2.x or 3 on this host: its name, port, CA, users and images")
	f.BoolVar(&o.clean, "cleanup", false, cleanupUsage)
	f.StringVar(&o.follow, "follow", "", "then be a copy of the appliance at https://HOST:PORT, as appliance follow does")
	o.first.addFlags(f, "follow-")
	o.foreign.declare(f, foreignCommonFlags)
	o.foreign.declare(f, foreignInstallFlags)
}

// foreignCommonFlags are what each of mirror-registry's commands takes, and ours do nothing with.
var foreignCommonFlags = []foreign{
	{ignored, "additionalArgs", "there is no Ansible to hand arguments to"},
	{ignoredSwitch, "no-color,c", ""}, // nothing is coloured
}

var foreignInstallFlags = []foreign{
	{ignored, "image-archive,i", "the program needs no container images of its own"},
}

func newInstallCommand(std stdio) *cobra.Command {
	var o installOptions
	c := &cobra.Command{
		Use:   "install",
		Short: "Put the registry on this host, as a systemd service",
		Long: `Put the registry on this host, as a systemd service: as root a system service, as a user a
service of that user which goes on after log-out.

Nothing but systemd is needed. Every problem is shown at once before anything is changed; a failed
install takes back what it did; a second install changes nothing and says so.`,
		Example: "  sudo appliance install --quayHostname registry.example.com\n" +
			"  appliance install -H registry.example.com -u admin --become     on that host, over SSH",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.foreign.check(c, std.err); err != nil {
				return err
			}
			if err := noEmptyValue(c, "quayHostname", "initUser", "initPassword", "initPasswordFile", "sslCert", "sslKey", "follow", "follow-credentials", "follow-ca"); err != nil {
				return err
			}
			return runInstall(c.Context(), std, o)
		},
	}
	o.addFlags(c.Flags())
	onOtherHosts(c, std, &o.remote)
	return c
}

func runInstall(ctx context.Context, std stdio, o installOptions) error {
	if err := errors.Join(o.absolute(), o.certificate.absolute()); err != nil {
		return err
	}
	if o.clean && o.output != "" {
		return hint.New(errors.New("a cleanup is not shown as JSON"), "leave out --output, or --cleanup")
	}
	request, err := o.request(ctx, std.in)
	if err != nil {
		return err
	}
	first, err := o.followed(ctx, std) // before anything is changed
	if err != nil {
		return err
	}
	unlock, err := installer.Lock(installerDeps())
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.settle(ctx, std, request, false); err != nil {
		return err
	}
	if o.clean && !o.adopt {
		return o.cleanup(ctx, std, request, o.remote.autoApprove)
	}
	takenOver := func() {}
	if o.adopt {
		if takenOver, err = o.takeOver(ctx, std, &request); err != nil {
			return err
		}
	}
	deps := installerDeps()
	deps.Show = func(result installer.Result) error {
		takenOver()
		reportInstall(std.out, result)
		return std.seen()
	}
	plan, err := installer.PlanInstall(ctx, request, deps)
	if err != nil {
		return err
	}
	_, _, err = o.carryOut(ctx, std, plan)
	if o.dryRun && o.output == "" && err == nil {
		takenOver()
	}
	if first != nil && err == nil {
		err = o.followFirst(ctx, std, *first)
	}
	if o.clean && !o.dryRun && err == nil {
		return o.cleanup(ctx, std, request, o.remote.autoApprove)
	}
	return err
}

// request turns the flags into what the installer takes.
func (o *installOptions) request(ctx context.Context, stdin io.Reader) (installer.Request, error) {
	host, port, err := splitHostPort(o.hostname)
	if err != nil {
		return installer.Request{}, err
	}
	binary, err := os.Executable()
	if err != nil {
		return installer.Request{}, fmt.Errorf("find the running program: %w", err)
	}
	password, err := o.password(ctx, stdin)
	if err != nil {
		return installer.Request{}, err
	}
	return installer.Request{
		Hostname:      host,
		Target:        o.remote.name(),
		Port:          port,
		QuayRoot:      o.quayRoot,
		QuayStorage:   o.quayStorage,
		SqliteStorage: o.sqliteStorage,
		Binary:        binary,
		User:          os.Geteuid() != 0,
		InitUser:      o.initUser,
		InitPassword:  password,
		SSLCert:       o.certificate.cert,
		SSLKey:        o.certificate.key,
		SSLCheckSkip:  o.certificate.checkSkip,
		OpenFirewall:  o.remote.autoApprove,
	}, nil
}

// password returns the password of the first user, empty if one is to be generated.
func (o *installOptions) password(ctx context.Context, stdin io.Reader) (string, error) {
	switch {
	case o.passwordFile != "" && o.initPassword != "":
		return "", hint.New(errors.New("--initPassword and --initPasswordFile are both given"), "leave one of them out")
	case o.passwordFile == "-", o.initPassword == "-":
		return readPassword(ctx, stdin)
	case o.passwordFile == "":
		return o.initPassword, nil
	}
	text, err := regular.ReadFile(o.passwordFile)
	if err != nil {
		return "", hint.New(fmt.Errorf("--initPasswordFile: %w", err), "name a file whose first line is the password")
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", hint.New(fmt.Errorf("--initPasswordFile: %s has an empty first line", o.passwordFile), "write the password on it")
	}
	return line, nil
}

// reportInstall ends with the line that scripts around mirror-registry look for.
func reportInstall(w io.Writer, r installer.Result) {
	if !r.Changed {
		fmt.Fprintf(w, "nothing had to be changed: the appliance in %s is as it should be\n", r.QuayRoot)
	}
	if r.CA != "" {
		fmt.Fprintf(w, "CA for clients to trust: https://%s/ca.crt, or %s\n", r.Address, r.CA)
	}
	switch secret := installer.PullSecretFile(r.QuayRoot); {
	case r.PullerRole != "":
		fmt.Fprintf(w, "the user %[1]s, which is for cluster nodes, has the role %[2]s and is left alone; to have it only read: %[3]s\n",
			installer.PullerUser, r.PullerRole, typed("appliance user role "+installer.PullerUser+" pull, then appliance install"))
	case fileExists(secret):
		fmt.Fprintf(w, "pull secret for cluster nodes, which can only read: %s\n", secret)
	}
	if r.InitPassword == "" {
		fmt.Fprintf(w, "appliance is available at https://%s with the credentials of %s that it has had before\n"+
			"if its password is lost, set a new one: %s\n", r.Address, r.InitUser,
			typed("appliance user passwd "+r.InitUser))
		return
	}
	fmt.Fprintf(w, "appliance is available at https://%s with credentials (%s, %s)\n", r.Address,
		r.InitUser, r.InitPassword)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func installerDeps() installer.Deps {
	return installer.Deps{
		Version:      version,
		Schema:       store.SchemaVersion(),
		Built:        builtAt(),
		LookAtServer: lookAtServer,
	}
}

type uninstallOptions struct {
	placeOptions
	autoApprove bool
	keepContent bool
	foreign     foreignFlags
	remote      remoteOptions
}

func newUninstallCommand(std stdio) *cobra.Command {
	var o uninstallOptions
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Take the registry off this host again",
		Long: `Take the registry off this host again: service, program, configuration, certificates, and, with
your consent, the images. It asks before each; --autoApprove consents to all of it.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.foreign.check(c, std.err); err != nil {
				return err
			}
			return runUninstall(c.Context(), std, o)
		},
	}
	f := c.Flags()
	o.placeOptions.addFlags(f)
	f.BoolVar(&o.autoApprove, "autoApprove", false, "do not ask; remove the images too")
	f.BoolVar(&o.keepContent, "keepContent", false, "keep images and database, also with --autoApprove")
	o.foreign.declare(f, foreignCommonFlags)
	onOtherHosts(c, std, &o.remote)
	return c
}

func runUninstall(ctx context.Context, std stdio, o uninstallOptions) error {
	if err := o.absolute(); err != nil {
		return err
	}
	request := installer.Request{
		QuayRoot:      o.quayRoot,
		QuayStorage:   o.quayStorage,
		SqliteStorage: o.sqliteStorage,
		User:          os.Geteuid() != 0,
		RemoveContent: !o.keepContent,
	}
	unlock, err := installer.Lock(installerDeps())
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.settle(ctx, std, request, true); err != nil {
		return err
	}
	first, err := installer.PlanUninstall(ctx, request, installerDeps())
	if err != nil {
		return err // before anybody is asked about what is not there
	}
	for _, name := range first.Elsewhere {
		if o.output != "" {
			break // the plan has them
		}
		fmt.Fprintf(std.out, "%s stays as it is, with what it has: it is not this host's\n", name)
	}
	if !o.autoApprove && !o.dryRun {
		where := "this host"
		if std.far {
			where = o.remote.host
		}
		if err := approve(ctx, std, &request, where, contentOf(first, "all images and the database")); err != nil {
			return err
		}
	}
	plan, err := installer.PlanUninstall(ctx, request, installerDeps())
	if err != nil {
		return err
	}
	result, done, err := o.carryOut(ctx, std, plan)
	if !done || err != nil {
		return err
	}
	fmt.Fprintf(std.out, "the appliance in %s has been removed\n", result.QuayRoot)
	if !request.RemoveContent {
		fmt.Fprintf(std.out, "%s have been kept; another install with the same directories finds them again\n", contentOf(first, "images and database"))
	}
	return nil
}

// approve asks whether the appliance is to go, and whether its content is.
func approve(ctx context.Context, std stdio, request *installer.Request, where, content string) error {
	answers := bufio.NewReader(std.in)
	if err := consent(ctx, std.out, answers, "Remove the appliance from "+where+"?"); err != nil {
		return err
	}
	if request.RemoveContent {
		request.RemoveContent = consent(ctx, std.out, answers, "Remove "+content+" as well?") == nil
	}
	return ctx.Err() // a signal is not an answer
}

// contentOf names what an uninstall leaves or removes besides the service.
func contentOf(plan *installer.Plan, usual string) string {
	if len(plan.Elsewhere) == 0 {
		return usual
	}
	return "the CA, the pull secret, and what directories of this host have of images and database"
}

func warn(w io.Writer, problems []installer.Problem) {
	for _, p := range problems {
		fmt.Fprintf(w, "warning: %s\n         %s\n", p.What, typed(p.Remedy))
	}
}

func describe(ctx context.Context, w io.Writer, plan *installer.Plan) error {
	lines, err := plan.Pending(ctx)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		fmt.Fprintln(w, "nothing would be changed")
		return nil
	}
	fmt.Fprintln(w, "this would be done, in this order:")
	for _, line := range lines {
		fmt.Fprintln(w, " ", line)
	}
	return nil
}

// splitHostPort takes HOST or HOST:PORT. What is a good host name is for preflight to say, together
// with every other problem.
func splitHostPort(s string) (host string, port int, err error) {
	if !strings.Contains(s, ":") || net.ParseIP(s) != nil {
		return s, 0, nil
	}
	host, p, err := net.SplitHostPort(s)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 1 || port > 65535 {
		return "", 0, hint.New(
			fmt.Errorf("--quayHostname %q is not HOST or HOST:PORT with a port from 1 to 65535", s),
			"for example --quayHostname registry.example.com:8443")

	}
	return host, port, nil
}
