package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// archiveOptions are the flags of a mirror to or from archives.
type archiveOptions struct {
	from    []string
	since   string
	have    string
	strict  bool
	partial bool
	v1      archive.V1
	ownSet  bool  // the image set is that of the archive
	size    int64 // GiB of a file of the archive; 0: that of the image set
	beside  int64 // bytes that come into the directory of an archive, or to the destination of one, besides
}

func (o *archiveOptions) addFlags(f *pflag.FlagSet) {
	f.Var(pathsValue{&o.from}, "from", "file://DIR with an archive to mirror from; repeat it for chunks in several directories")
	f.StringVar(&o.since, "since", "", "into an archive: what is new since the last archive before this day, yyyy-MM-dd")
	f.BoolVar(&o.partial, "partial", false, "from an archive: import what is here, since other chunks come on another medium; the last one must be here")
	pathVar(f, &o.have, "have", "", "into an archive: leave out what this file lists, written by appliance inventory on the far side")
	f.BoolVar(&o.strict, "strict-archive", false,
		"into an archive: refuse a file that is larger than archiveSize, before anything is written")
}

// pathsValue is a flag that is repeated, each time with a path.
type pathsValue struct{ paths *[]string }

func (v pathsValue) Type() string { return "string" }

// String returns the last one.
func (v pathsValue) String() string {
	if v.paths == nil || len(*v.paths) == 0 {
		return ""
	}
	return (*v.paths)[len(*v.paths)-1]
}

func (v pathsValue) Set(s string) error {
	path, err := expandPath(s)
	if err == nil {
		*v.paths = append(*v.paths, path)
	}
	return err
}

// checkSources checks --from and --since.
func (o *archiveOptions) checkSources(destination string) error {
	if strings.HasPrefix(destination, "file://") && len(o.from) > 0 {
		return errors.New("when destination is file://, mirrorToDisk workflow is assumed, and the --from argument is not needed")
	}
	for _, from := range o.from {
		if !strings.HasPrefix(from, "file://") {
			return hint.New(errors.New("when --from is used, it must have file:// prefix"), "--from file://"+from)
		}
		if from == "file://" {
			return hint.New(errors.New("--from names no directory"), "--from file:///media/usb")
		}
	}
	_, err := o.day()
	return err
}

// check checks the flags that oc-mirror does not have, and an archive's directory.
func (o *archiveOptions) check(destination string) error {
	toDisk := strings.HasPrefix(destination, "file://")
	switch {
	case toDisk && strings.Trim(destination, "/") == "file:":
		return hint.New(errors.New("the destination names no directory"), "file:///data/archive")
	case o.partial && len(o.from) == 0:
		return hint.New(errors.New("--partial is for an import"), "leave it out, or name an archive: --from file://DIR")
	case !toDisk && o.have != "":
		return hint.New(errors.New("--have is for an archive"), "leave it out, or name a directory: file://DIR")
	case !toDisk && o.strict:
		return hint.New(errors.New("--strict-archive is for an archive"), "leave it out, or name a directory: file://DIR")
	}
	return nil
}

// day returns --since.
func (o *archiveOptions) day() (time.Time, error) {
	if o.since == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, o.since)
	if err != nil {
		return time.Time{}, hint.New(errors.New("--since flag needs to be in format yyyy-MM-dd"),
			"for example --since 2026-11-20")
	}
	return day, nil
}

// cacheRegistry is the registry that oc-mirror names the content of archives by.
const cacheRegistry = "localhost:55000"

// toArchive makes a run one into the archive of a directory.
func (o *archiveOptions) toArchive(destination string, run *mirror.Options, dryRun bool, say func(string, ...any)) (end func() error, err error) {
	dir := filepath.Clean(strings.TrimPrefix(destination, "file://"))
	to := archive.Options{
		Dir: dir, ImageSet: run.Config.Text, ChunkSize: cmp.Or(o.size, run.Config.ArchiveSize) << 30,
		Strict: o.strict, DryRun: dryRun, Version: version, Log: run.Log, Say: say, Beside: o.beside,
	}
	if to.Since, err = o.day(); err != nil {
		return nil, err
	}
	if o.have != "" {
		if to.Have, err = archive.ReadInventory(o.have); err != nil {
			return nil, err
		}
	}
	var w *archive.Writer
	run.Registry, run.Workspace, run.ToArchive = cacheRegistry, dir, true
	run.Begin = func(ctx context.Context, _ string) (_ mirror.Destination, err error) {
		if w, err = archive.Create(ctx, to); err != nil {
			return nil, err
		}
		return w, nil
	}
	return func() error {
		if w == nil {
			return nil
		}
		return w.Close()
	}, nil
}

// fromArchives makes a run one that asks the archives in some directories, and nothing else. Where
// --workspace names none, the workspace is the first of them, as oc-mirror's.
func (o *archiveOptions) fromArchives(ctx context.Context, run *mirror.Options) (end func() error, err error) {
	var dirs []string
	for _, from := range o.from {
		dirs = append(dirs, filepath.Clean(strings.TrimPrefix(from, "file://")))
	}
	open := archive.Open
	if o.partial {
		open = archive.OpenPartial
	}
	a, err := open(ctx, dirs...)
	if err != nil {
		return nil, err
	}
	for _, i := range run.Config.Mirror.AdditionalImages {
		ref, err := imageset.ParseReference(i.Name)
		if err == nil && (ref.Tag != "" && i.TargetRepo+i.TargetTag != "" || ref.IsLayout()) {
			a.Alias(ref.Name()+":"+ref.Tag, cmp.Or(i.TargetRepo, ref.DestinationPath()), cmp.Or(i.TargetTag, ref.DestinationTag()))
		}
	}
	if o.v1 = a.V1(); run.Config.V1 && o.v1.Metadata != nil {
		run.ArchiveV1 = &mirror.ArchiveV1{Given: !o.ownSet, Images: o.v1.Images, Past: o.v1.Past}
		for _, c := range o.v1.Catalogs {
			run.ArchiveV1.Catalogs = append(run.ArchiveV1.Catalogs, catalog.OfV1(c))
		}
	}
	run.Documents, run.Workspace = a, cmp.Or(run.Workspace, dirs[0])
	run.Open = func(ref imageset.Reference) (mirror.Source, error) { return a.Repository(ref.Name(), ref.Path), nil }
	return a.Close, nil
}

// archived says where the archive is, and what to do with it.
func (p *progress) archived(dir string) {
	p.say("the archive is in %s: carry its mirror_*.tar to the far side, and import them there:\n"+
		"  appliance mirror -c FILE --from file://DIR docker://HOST:PORT", dir)
}
