package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// workspaceV1 is the default of oc-mirror v1's --dir.
const workspaceV1 = "oc-mirror-workspace"

// errorV1 is an error of a run of version 1, which has no other exit code.
type errorV1 struct{ error }

func (e errorV1) Unwrap() error { return e.error }

// ExitCode returns the only exit code of version 1.
func (e errorV1) ExitCode() int { return exitError }

// loaded is the image set of a command line, which is read once: it may be a pipe.
type loaded struct {
	config *imageset.Config
	err    error
	v1     bool // the command line, or the file, is for version 1
}

// loadImageSet reads the image set as one of the version that is meant: that of --v1 or --v2, else
// that of the file. A file that cannot be read is an error later, after those of flags.
func (o *mirrorOptions) loadImageSet(f *pflag.FlagSet) {
	o.set.v1 = isSet(f, "v1")
	if o.config == "" {
		return
	}
	load := imageset.LoadEither
	switch {
	case o.set.v1:
		load = imageset.LoadV1
	case isSet(f, "v2"):
		load = imageset.Load
	}
	o.set.config, o.set.err = load(o.config)
	if o.set.config != nil && o.set.config.V1 {
		o.set.v1 = true
	}
}

// imageSet returns the image set that was loaded, or loads it.
func (o *mirrorOptions) imageSet() (*imageset.Config, error) {
	if o.set.config != nil || o.set.err != nil {
		return o.set.config, o.set.err
	}
	return imageset.Load(o.config)
}

// readV1 checks a command line of version 1, in its words and order, and sets the flags of version 2
// that mean the same.
func (o *mirrorOptions) readV1(ctx context.Context, f *pflag.FlagSet, destination string) error {
	scheme, _, ok := strings.Cut(destination, "://")
	toDisk, toRegistry := scheme == "file", scheme == "docker"
	switch {
	case !ok:
		return hint.New(errors.New("no scheme delimiter in destination argument"), "docker://HOST:PORT or file://DIR")
	case !toDisk && !toRegistry:
		return hint.New(fmt.Errorf("unknown destination scheme %q", scheme), "docker://HOST:PORT or file://DIR")
	case toDisk && f.Changed("dir"):
		return errors.New("--dir cannot be specified with file destination scheme")
	case toDisk && len(o.from) > 0:
		return errors.New("must specify a registry destination")
	case toDisk && o.config == "":
		return errors.New("must specify a configuration file with --config")
	case o.config == "" && len(o.from) == 0:
		return errors.New("must specify --config or --from with registry destination")
	case isSet(f, "manifests-only") && len(o.from) == 0:
		return errors.New("must specify a path to an archive with --from with --manifest-only")
	}
	o.skipPruning, o.skipCheck = isSet(f, "skip-pruning"), isSet(f, "skip-metadata-check")
	for i, from := range o.from {
		from = strings.TrimPrefix(from, "file://")
		if _, err := os.Stat(from); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		o.from[i] = "file://" + from
	}
	if toRegistry && o.workspace == "" {
		o.workspace = "file://" + cmp.Or(f.Lookup("dir").Value.String(), workspaceV1)
	}
	if o.config == "" {
		return o.imageSetOfArchive(ctx)
	}
	return nil
}

// imageSetOfArchive takes the image set from the metadata of the archive that is mirrored from. It is named by
// the metadata's uid, so that all archives of one image set are of one.
func (o *mirrorOptions) imageSetOfArchive(ctx context.Context) (err error) {
	var dirs []string
	for _, from := range o.from {
		dirs = append(dirs, strings.TrimPrefix(from, "file://"))
	}
	a, err := archive.Open(ctx, dirs...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	raw := a.V1().Metadata
	if raw == nil {
		return hint.New(errors.New("the archive does not have its image set: it is not one of oc-mirror v1"), "-c FILE, with the image set that the archive was made of")
	}
	of, err := metadata.Parse(raw)
	if err != nil {
		return err
	}
	text, err := of.ImageSet()
	if err != nil {
		return err
	}
	o.ownSet = true
	o.config = "mirror-" + of.UID.String()
	o.set.config, err = imageset.ParseV1(o.config, text)
	return err
}
