// Command appliance is the container registry of a network without internet: it installs itself as
// a service, mirrors image set configurations, pulls through from upstreams, and collects garbage.
//
// Each command has one file: a constructor, an options struct whose addFlags names the flags, and a
// run function that takes a context and returns an error. The logic is in the packages.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// version is set by the linker (see Makefile).
var version = "dev"

// Exit codes. Those of mirror are a bit mask, as scripts around oc-mirror know it.
const (
	exitOK    = 0
	exitError = 1
)

// exitCoder is an error that decides the exit code, for commands whose codes mean something.
type exitCoder interface{ ExitCode() int }

// stdio is what a command may read and write; tests put their own.
type stdio struct {
	in       io.Reader
	out, err io.Writer

	far   bool         // they are those of another host, whose request this process carries out
	shown func() error // waits until that host has shown what was written; nil: without far
}

func main() {
	surviveClosedOutput()
	if err := setHome(); err != nil {
		report(os.Stderr, err)
		os.Exit(exitError)
	}
	std := stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if isPlugin(os.Args[0]) {
		os.Exit(executePlugin(os.Args[1:], std))
	}
	os.Exit(execute(os.Args[1:], std))
}

// executePlugin runs a command line of oc-mirror, whose errors are lines of its log too.
func executePlugin(args []string, std stdio) int {
	std.err = logWriter{std.out}
	if err := checkVersionFlag(args); err != nil {
		report(std.err, err)
		return exitVersionFlag
	}
	return executeWith(newPluginCommand, args, std)
}

// execute runs one command line and returns its exit code.
func execute(args []string, std stdio) int { return executeWith(newRootCommand, args, std) }

func executeWith(command func(stdio) *cobra.Command, args []string, std stdio) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	out := &output{Writer: std.out}
	if !isTerminal(std.out) {
		std.out = out
	}
	if !isTerminal(std.err) {
		std.err = &output{Writer: std.err}
	}
	root := command(std)
	root.SetArgs(args)
	if isCompletion(args) {
		completes(root)
	}
	defer endInTime(ctx, stop, patienceOf(root, args), std)()
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.err()
	}
	return exitCode(std.plain(), err)
}

func newRootCommand(std stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "appliance",
		Short: "The container registry of a network without internet",
		Long: `The container registry of a network without internet.

  appliance install --quayHostname HOST      put the registry on this host, as a service
  appliance mirror -c FILE docker://HOST:PORT --workspace file://DIR
                                             fill it from an image set configuration
  appliance mirror -c FILE file://DIR        the same into an archive; on the other side: --from file://DIR
  appliance cluster-config --dir DIR         write what a cluster is installed with from it
  appliance gc                               take out what no image uses any more
  appliance uninstall                        take it away again

Exit codes: 0 done, 1 an error, said in one message. mirror adds a bit mask, see its help.`,
		Args:              noSuchCommand,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(usageError)
	root.SetHelpCommand(newHelpCommand(root))
	// Not for mirror, which draws bars with control characters, nor for serve, whose log is plain.
	plain := std.plain()
	root.AddCommand(
		newInstallCommand(plain),
		newUpgradeCommand(plain),
		newUninstallCommand(plain),
		newServeCommand(std),
		newMirrorCommand(std, false),
		newGCCommand(plain),
		newUserCommand(plain),
		newStatusCommand(plain),
		newCertCommand(plain),
		newVerifyCommand(plain),
		newScrubCommand(plain),
		newSyncCommand(plain),
		newCatalogsCommand(plain),
		newUpstreamCommand(plain),
		newOfflineCommand(plain),
		newFollowCommand(plain),
		newPromoteCommand(plain),
		newForgetCommand(plain),
		newMissesCommand(plain),
		newUpdatesCommand(plain),
		newReadyCommand(plain),
		newPinCommand(plain),
		newClusterConfigCommand(plain),
		newDoctorCommand(plain),
		newConfigCommand(plain),
		newPullSecretCommand(plain),
		newTrustCommand(plain),
		newSupportBundleCommand(std),
		newInventoryCommand(plain),
		newImageSetCommand(plain),
		newBundleCommand(std),
		newUnbundleCommand(std),
		newDriftCommand(plain),
		newPruneReachableCommand(plain),
		newAdoptCommand(plain),
		newBackupCommand(plain),
		newRestoreCommand(plain),
		newStoreCommand(plain),
		newPrepareCommand(plain),
		newControlCommand(plain),
		newLookAtServerCommand(plain),
		newLookAtServersCommand(plain),
		newEnterCommand(),
		newRemoteRunCommand(std),
		newDocsCommand(plain),
		newVersionCommand(plain),
		newManCommand(),
	)
	addOCMirror(root, plain)
	for _, c := range root.Commands() {
		if slices.Contains([]string{"install", "upgrade", "uninstall"}, c.Name()) {
			c.Version = version // mirror-registry's take --version
		}
	}
	hide(root.Flags(), "no-color,c", true) // before the command, where mirror-registry takes it too
	root.SetGlobalNormalizationFunc(oneSpelling)
	return root
}

// usageError returns an error about a command line that cannot be understood.
func usageError(c *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = wrongValue(invalid.GetFlag(), invalid.GetValue(), err)
	}
	return hint.New(err, cmp.Or(hintOf(err), c.CommandPath()+" --help lists the flags"))
}

// wrongValue returns the error of a flag's value: err, unless that is of Go's parsers.
func wrongValue(f *pflag.Flag, value string, err error) error {
	wanted := map[string]string{"bool": "true or false", "int": "a number", "int64": "a number", "count": "a number", "duration": "a duration such as 90s, 10m or 2h"}
	if want := wanted[f.Value.Type()]; want != "" && hintOf(err) == "" {
		return fmt.Errorf("--%s is %q: %s is wanted", f.Name, value, want)
	}
	return err
}

// newHelpCommand is cobra's, except that an unknown command is an error.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil {
				return err
			}
			if err := noSuchCommand(about, rest); err != nil {
				return err
			}
			about.InitDefaultHelpFlag() // these are made when a command is run
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	}
}

// noSuchCommand rejects an unknown subcommand, for which cobra prints help and ends with 0.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return hint.New(fmt.Errorf("unknown command %q for %s", args[0], c.CommandPath()),
			c.CommandPath()+" --help lists the commands")
	}
	return nil
}

// takes returns a check of the number of arguments.
func takes(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError(c, fmt.Errorf("%s takes %s", c.CommandPath(), what))
		}
		return nil
	}
}

// takesSome returns a check that there are arguments.
func takesSome(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError(c, fmt.Errorf("%s takes %s", c.CommandPath(), what))
		}
		return nil
	}
}

// noArguments refuses stray words, which are mostly a flag whose dashes were forgotten.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(c, fmt.Errorf("%q is not an argument of %s", args[0], c.CommandPath()))
	}
	return nil
}
