package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/docs"
	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/medium"
)

// defaultArchiveSize is oc-mirror's, in GiB.
const defaultArchiveSize = 500

type bundleOptions struct {
	mirrorOptions
	files       string
	binaries    []string
	archiveSize int64
}

// carried is a file for the medium.
type carried struct {
	Path, Name string
	size       int64 `yaml:"-"`
}

func newBundleCommand(std stdio) *cobra.Command {
	var o bundleOptions
	c := &cobra.Command{
		Use:   "bundle -c FILE [--files FILE] file://DIR",
		Short: "Write everything for the far side of a gap into one directory",
		Long: `Write everything that the far side of a gap needs into one directory: this program, the image set and its archive,
the documentation, and files, with SHA256SUMS over all of it. On the far side ./appliance unbundle does the rest.

Files such as oc, openshift-install or an RHCOS ISO are listed below files: in a file of their own, --files, or
files.yaml beside the image set: a key of the image set itself would be refused by oc-mirror, which reads the same file.

  files:
  - path: downloads/openshift-client-linux.tar.gz
  - path: downloads/rhcos.iso
    name: rhcos-4.20-live.iso

The second time into the same directory the archive has only what is new, as with appliance mirror.`,
		Example: "  appliance bundle -c imageset.yaml --files files.yaml file:///data/medium",
		Args:    takes(1, "one directory, such as file:///data/medium"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.loadImageSet(c.Flags())
			err := runBundle(c.Context(), std, o, args[0])
			if err != nil && o.set.v1 {
				return errorV1{err}
			}
			return err
		},
	}
	f := c.Flags()
	o.addCommon(f)
	pathVar(f, &o.files, "files", "", "list of files to carry (default files.yaml beside the image set, if there is one)")
	f.Var(pathsValue{&o.binaries}, "binary", "a program of another architecture to carry; repeat it (default those beside this one)")
	f.Int64Var(&o.archiveSize, "archive-size", 0, "GiB of a file of the archive, and of a piece of a file (default archiveSize of the image set)")
	for _, flag := range []string{"config", "dry-run", "since", "have", "strict-archive"} {
		f.Lookup(flag).Hidden = false
	}
	return c
}

func runBundle(ctx context.Context, std stdio, o bundleOptions, argument string) error {
	if !strings.HasPrefix(argument, "file://") {
		return hint.New(fmt.Errorf("%q is not a directory for a medium", argument), "file:///data/medium")
	}
	if o.archiveSize < 0 {
		return errors.New("--archive-size must not be negative")
	}
	if err := o.check(argument); err != nil {
		return err
	}
	dir := filepath.Clean(strings.TrimPrefix(argument, "file://"))
	files, err := o.carries()
	if err != nil {
		return err
	}
	programs, err := o.programs()
	if err != nil {
		return err
	}
	config, err := o.imageSet()
	if err != nil {
		return err
	}
	need, err := fitsOn(dir, files, programs)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintln(std.err, plain.Line(fmt.Sprintf(format, args...))) }
	o.archiveOptions.size = o.archiveSize
	if o.dryRun {
		o.archiveOptions.beside = need
		say("the medium has %s besides the archive:", bytesOf(need))
		for name, from := range programs {
			say("program %s, from %s", name, from)
		}
		for _, f := range files {
			say("file %s, %s, from %s", f.Name, bytesOf(f.size), f.Path)
		}
		return runMirror(ctx, std, o.mirrorOptions, argument)
	}
	unlock, err := mirror.Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	o.locked = true
	w, err := medium.Create(dir)
	if err != nil {
		return err
	}
	if err := o.fill(ctx, w, files, programs, config, say); err != nil {
		return err
	}
	// After an archive that is whole, another would have only what is new since.
	pending := filepath.Join(dir, "working-dir", ".bundle")
	var lacks error
	if made, err := os.ReadFile(pending); err == nil && bytes.Equal(made, config.Text) {
		say("the archive is there since the last attempt")
	} else if lacks, err = o.archive(ctx, std, argument, pending, config.Text); err != nil {
		return err
	}
	if err := w.Close(ctx, func(name string) { say("checksum of %s", name) }); err != nil {
		return err
	}
	if err := os.Remove(pending); err != nil {
		return err
	}
	say("the medium is in %s: carry all of it but working-dir, and there: ./appliance unbundle", dir)
	if lacks != nil {
		return hint.New(fmt.Errorf("the medium can be carried, and is without some images: %w", lacks),
			"carry it as it is; or mend what failed, and run the same command again: it makes the medium with them, and fetches nothing twice")
	}
	return nil
}

// archive mirrors into the archive of the medium, and notes in a file that this is done. An image
// that the vendor has lost stops no medium: lacks is the error of an archive without some.
func (o *bundleOptions) archive(ctx context.Context, std stdio, argument, done string, set []byte) (lacks, err error) {
	err = runMirror(ctx, std, o.mirrorOptions, argument)
	if mirror.Partly(err) {
		lacks, err = err, nil
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("the medium is not whole, and has no %s: %w", medium.Sums, err),
			cmp.Or(hintOf(err), "run the same command again: what has arrived is not fetched again"))
	}
	return lacks, replaceFile(done, set)
}

// fill puts everything but the archive on the medium.
func (o *bundleOptions) fill(ctx context.Context, w *medium.Writer, files []carried, programs map[string]string,
	config *imageset.Config, say func(string, ...any)) error {
	size := cmp.Or(o.archiveSize, config.ArchiveSize, defaultArchiveSize) << 30
	for name, from := range programs {
		if err := w.Program(ctx, name, from); err != nil {
			return err
		}
	}
	if err := w.Put(ctx, medium.ImageSet, config.Text); err != nil {
		return err
	}
	pages, err := fs.Glob(docs.Files, "*.md")
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := docs.Files.ReadFile(page)
		if err == nil {
			err = w.Put(ctx, "docs/"+page, text)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range files {
		say("copying %s, %s", f.Name, bytesOf(f.size))
		if err := w.File(ctx, f.Name, f.Path, size); err != nil {
			return err
		}
	}
	return nil
}

// carries reads the list of files. Relative paths are beside it.
func (o *bundleOptions) carries() ([]carried, error) {
	list := o.files
	if list == "" {
		list = filepath.Join(filepath.Dir(o.config), "files.yaml")
		if _, err := os.Stat(list); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	text, err := regular.ReadFile(list)
	if err != nil {
		return nil, hint.New(fmt.Errorf("read the list of files to carry: %w", err), "list them in a file, as appliance bundle --help shows: --files FILE")
	}
	var read struct{ Files []carried }
	var d yamlkeys.Decoder
	if root := d.Document(text, "list the files in it, as appliance bundle --help shows, or remove it"); root != nil {
		d.Mapping(root, "", yamlkeys.Fields(&read))
	}
	if err := d.Err(list); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for i := range read.Files {
		c := &read.Files[i]
		if !filepath.IsAbs(c.Path) {
			c.Path = filepath.Join(filepath.Dir(list), c.Path)
		}
		c.Name = cmp.Or(c.Name, filepath.Base(c.Path))
		info, err := os.Stat(c.Path)
		switch {
		case err != nil:
		case !info.Mode().IsRegular():
			err = errors.New("not a file")
		case names[strings.ToLower(c.Name)]: // media often have file systems that know no case
			err = errors.New("another file has the same name, or one that differs in upper and lower case only")
		default:
			err = medium.CheckName(c.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", list, c.Path, err)
		}
		names[strings.ToLower(c.Name)], c.size = true, info.Size()
	}
	return read.Files, nil
}

// programs returns what is carried as appliance, this program, and those of other architectures.
func (o *bundleOptions) programs() (map[string]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the running program: %w", err)
	}
	all := map[string]string{"appliance": self}
	others := o.binaries
	if len(others) == 0 {
		others, _ = filepath.Glob(filepath.Join(filepath.Dir(self), "appliance-*")) // the pattern is right
	}
	for _, path := range others {
		name := filepath.Base(path)
		switch machine, err := machineOf(path); {
		case strings.HasPrefix(name, "appliance-helm"):
		case err != nil && len(o.binaries) > 0:
			return nil, fmt.Errorf("--binary %s: %w", path, err)
		case err == nil:
			all["appliance-"+machine] = path
		}
	}
	return all, nil
}

// machineOf returns the architecture of a program for Linux, as uname -m has it.
func machineOf(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("not a program for Linux: %w", err)
	}
	defer f.Close()
	known := map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "aarch64", elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x"}
	if known[f.Machine] == "" {
		return "", fmt.Errorf("a program for %s", f.Machine)
	}
	return known[f.Machine], nil
}

// fitsOn returns the bytes of the files and programs, or an error if they do not fit, before hours of
// mirroring. The archive is judged by the mirror.
func fitsOn(dir string, files []carried, programs map[string]string) (need int64, err error) {
	for _, f := range files {
		need += f.size
	}
	for _, from := range programs {
		info, err := os.Stat(from)
		if err != nil {
			return 0, err
		}
		need += info.Size()
	}
	for at := dir; ; at = filepath.Dir(at) {
		free, _, err := diskspace.Bytes(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if free < need {
			return 0, hint.New(fmt.Errorf("files and programs have %s, and %s has %s free", bytesOf(need), at, bytesOf(free)), "free space there, or name another directory")
		}
		return need, nil
	}
}
