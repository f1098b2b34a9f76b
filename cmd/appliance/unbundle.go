package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/medium"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type unbundleOptions struct {
	mirror  mirrorOptions
	install installOptions
	asked   bool // to install
	to      string
	config  string // of the appliance
}

func newUnbundleCommand(std stdio) *cobra.Command {
	var o unbundleOptions
	c := &cobra.Command{
		Use:   "unbundle [DIR…]",
		Short: "Verify a medium, install from it if asked, import it, and serve its files",
		Long: `Verify a medium that appliance bundle has written, and import it into the appliance of this host: its images, and
its files, which are then at https://HOST:PORT/files/. DIR is the directory of the medium (default that of this
program); a medium in several parts has several.

Everything is read and compared with SHA256SUMS before anything is changed; what is damaged, missing or not of the
medium is named. Nothing is written to the medium. With --install the appliance is installed first, by the flags of
install. With --to it is another appliance, or another registry.`,
		Example: `  sudo ./appliance unbundle --install --quayHostname registry.example.com
  ./appliance unbundle /media/one /media/two --to docker://registry.example.com:8443`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.install.foreign.check(c, std.err); err != nil {
				return err
			}
			return runUnbundle(c.Context(), std, o, args)
		},
	}
	f := c.Flags()
	o.install.addFlags(f)
	f.BoolVar(&o.asked, "install", false, "install the appliance on this host first, by the flags of install")
	f.StringVar(&o.to, "to", "", "docker://HOST:PORT[/PATH] to import into (default the appliance of this host)")
	pathVar(f, &o.config, "config", "", "config.yaml of the appliance (default that of the installed service)")
	pathVar(f, &o.mirror.workspace, "workspace", "", "file://DIR for what the import keeps: cluster resources, logs (default ~/appliance-mirror)")
	pathVar(f, &o.mirror.authFile, "authfile", "", "registry logins, for --to")
	f.BoolVar(&o.mirror.destVerify, "dest-tls-verify", true, "verify the certificate of --to")
	pathVar(f, &o.mirror.destCertDir, "dest-cert-dir", "", "directory of *.crt to trust for --to")
	o.mirror.destination.addFlags(f, "dest", "dcreds")
	return c
}

func runUnbundle(ctx context.Context, std stdio, o unbundleOptions, dirs []string) error {
	say := func(format string, args ...any) { fmt.Fprintln(std.err, plain.Line(fmt.Sprintf(format, args...))) }
	if o.asked && o.to != "" {
		return hint.New(errors.New("--install and --to contradict each other"), "install on this host without --to, or import into the other")
	}
	if o.to != "" && !strings.HasPrefix(o.to, "docker://") {
		return hint.New(fmt.Errorf("%q is not a registry", o.to), "--to docker://HOST:PORT")
	}
	if len(dirs) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the running program: %w", err)
		}
		dirs = []string{filepath.Dir(self)}
	}
	for i, dir := range dirs {
		dirs[i] = filepath.Clean(strings.TrimPrefix(dir, "file://"))
	}
	at := locateOptions{config: o.config, quayRoot: o.install.quayRoot}
	if !o.asked && o.to == "" && !o.install.dryRun { // before an hour of verifying
		if _, err := at.load(); errors.Is(err, fs.ErrNotExist) {
			return hint.New(err, "install one from the medium: ./appliance unbundle --install --quayHostname HOST; or import into another: --to docker://HOST:PORT")
		}
	}
	m, err := medium.Open(ctx, func(name string) { say("verifying %s", name) }, dirs...)
	if err != nil {
		return err
	}
	say("the medium is whole: %s, with %s", bytesOf(m.Bytes), count(len(m.Files), "file"))
	if o.asked {
		if err := runInstall(ctx, std, o.install); err != nil {
			return err
		}
	}
	if o.install.dryRun {
		for _, f := range m.Files {
			say("would serve %s, %s, sha256:%s", f.Name, bytesOf(f.Size), f.SHA256)
		}
		say("would import the archive; nothing was changed")
		return nil
	}
	if o.to != "" {
		return o.bring(ctx, std, m, o.to)
	}
	id, err := at.load()
	if err != nil {
		return err
	}
	return withDaemon(ctx, &at, func(control *client.Client) error {
		o.mirror.near = control
		return o.bring(ctx, std, m, "docker://"+id.Config.Address())
	})
}

// mirrorOptions returns the options of the import of an image set: the defaults of mirror, but for what the
// flags say.
func (o *unbundleOptions) mirrorOptions(set string) mirrorOptions {
	var run mirrorOptions
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	run.addFlags(f)
	run.config = set
	run.loadImageSet(f)
	run.workspace, run.authFile, run.near = o.mirror.workspace, o.mirror.authFile, o.mirror.near
	run.destVerify, run.destCertDir, run.destination = o.mirror.destVerify, o.mirror.destCertDir, o.mirror.destination
	return run
}

// bring imports the archive and sends the files.
func (o *unbundleOptions) bring(ctx context.Context, std stdio, m *medium.Medium, to string) error {
	set, err := imageSetOf(m)
	if err != nil {
		return err
	}
	run := o.mirrorOptions(set)
	if run.workspace == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return hint.New(err, "--workspace file://DIR")
		}
		run.workspace = "file://" + filepath.Join(home, "appliance-mirror")
	}
	for _, dir := range m.Dirs {
		if found, _ := filepath.Glob(filepath.Join(dir, "mirror_*.tar")); len(found) > 0 { // the pattern is right
			run.from = append(run.from, "file://"+dir)
		}
	}
	var lacks error // some images, which the medium is without or which failed
	if len(run.from) > 0 {
		if run.beside, err = o.missing(ctx, m, to); err != nil {
			return err
		}
		lacks = runMirror(ctx, std, run, to)
	}
	partly := lacks == nil || mirror.Partly(lacks)
	if lacks != nil && run.set.v1 {
		lacks = errorV1{lacks}
	}
	if !partly || len(m.Files) == 0 {
		return lacks
	}
	if err := o.send(ctx, std, m, to); err != nil {
		return err
	}
	return lacks
}

// missing returns the bytes of the files that are not at the destination.
func (o *unbundleOptions) missing(ctx context.Context, m *medium.Medium, to string) (need int64, err error) {
	if len(m.Files) == 0 {
		return 0, nil
	}
	_, run, done, err := o.begin(ctx, to)
	if err != nil {
		return 0, err
	}
	defer done()
	need, err = m.Missing(ctx, run)
	return need, errors.Join(err, run.Abort(context.WithoutCancel(ctx)))
}

// begin begins the run that brings the files.
func (o *unbundleOptions) begin(ctx context.Context, to string) (address string, run mirror.Destination, done func(), err error) {
	address, prefix, err := mirror.ParseDestination(to)
	if err != nil {
		return "", nil, nil, err
	}
	keys, err := o.mirror.destination.keychain(o.mirror.authFile)
	if err != nil {
		return "", nil, nil, err
	}
	destination, err := o.mirror.openDestination(ctx, address, prefix, keys)
	if err != nil {
		return "", nil, nil, err
	}
	if run, err = destination.begin(ctx, "files of a medium"); err != nil {
		destination.close()
		return "", nil, nil, err
	}
	return address, run, destination.close, nil
}

func (o *unbundleOptions) send(ctx context.Context, std stdio, m *medium.Medium, to string) error {
	address, run, done, err := o.begin(ctx, to)
	if err != nil {
		return err
	}
	defer done()
	err = m.Send(ctx, run, func(f medium.File) {
		fmt.Fprintln(std.err, plain.Line(fmt.Sprintf("sending %s, %s", f.Name, bytesOf(f.Size))))
	})
	if err != nil {
		return hint.New(fmt.Errorf("send the files: %w", err), "run the same command again: what has arrived is not sent again")
	}
	for _, f := range m.Files {
		fmt.Fprintln(std.out, plain.Line(fmt.Sprintf("https://%s/files/%s sha256:%s", address, f.Name, f.SHA256)))
	}
	return nil
}

// imageSetOf returns the path of the image set of a medium.
func imageSetOf(m *medium.Medium) (string, error) {
	for _, dir := range m.Dirs {
		at := filepath.Join(dir, medium.ImageSet)
		if _, err := os.Stat(at); err == nil {
			return at, nil
		}
	}
	return "", fmt.Errorf("the medium has no %s", medium.ImageSet)
}
