// Command dist makes what is handed out: for each architecture an archive with the program, an RPM and a
// DEB, lists of what is in them (CycloneDX), and the checksums of all. A second run makes the same files.
//
// Packages bring the program, its manual pages, completions, its system user, and a unit that follows
// updates of the package once an administrator enables it. The service's own units are not among them:
// `appliance install` writes these for the directories that the administrator names, and has them start
// a copy of the program, so that an update or a removal of the package leaves what serves as it is, and
// an upgrade can go back.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// dist is a run.
type dist struct {
	root, dir, tmp string // of the repository, of what is made, of what is not kept
	version        string
	date           time.Time
	arches         []string
	fips           bool
}

func run(ctx context.Context, args []string) (err error) {
	var d dist
	f := flag.NewFlagSet("dist", flag.ContinueOnError)
	f.StringVar(&d.root, "root", ".", "the repository")
	f.StringVar(&d.dir, "dir", "dist", "directory to write to")
	f.StringVar(&d.version, "version", "dev", "version of the program")
	arches := f.String("arch", "amd64,arm64,ppc64le,s390x", "architectures, as Go names them")
	f.BoolVar(&d.fips, "fips", true, "make the FIPS 140-3 builds as well")
	if err := f.Parse(args); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w (make dist sets it to the time of the commit)", err)
	}
	d.date, d.arches = time.Unix(seconds, 0).UTC(), strings.Split(*arches, ",")
	for _, path := range []*string{&d.root, &d.dir} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if d.tmp, err = os.MkdirTemp("", "dist"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.tmp)) }()
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	return d.make(ctx)
}

// make has two architectures under way at a time: linking and compressing use one processor.
func (d *dist) make(ctx context.Context) error {
	if err := d.licenses(ctx); err != nil {
		return err
	}
	native, err := d.pages(ctx)
	if err != nil {
		return err
	}
	made := make([][]string, len(d.arches))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(2)
	for i, arch := range d.arches {
		work.Go(func() error {
			// The second takes over what the first has compiled, but for what uses cryptography.
			builds := []*build{{arch: arch}, {arch: arch, fips: true}}
			if arch == native.arch {
				builds[0] = native
			}
			if !d.fips {
				builds = builds[:1]
			}
			for _, b := range builds {
				files, err := d.release(ctx, b)
				if err != nil {
					return fmt.Errorf("%s: %w", b.name(d.version), err)
				}
				made[i] = append(made[i], files...)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return d.checksums(slices.Concat(made...))
}

// checksums writes SHA256SUMS, for sha256sum --check.
func (d *dist) checksums(files []string) error {
	slices.Sort(files)
	var text strings.Builder
	for _, file := range files {
		f, err := os.Open(filepath.Join(d.dir, file))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s  %s\n", hex.EncodeToString(h.Sum(nil)), file)
	}
	return os.WriteFile(filepath.Join(d.dir, "SHA256SUMS"), []byte(text.String()), 0o644)
}

var release = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)$`)

// packageVersion returns the version of a package: 0.0.0~git… for what was not released, which sorts
// before each release.
func (d *dist) packageVersion() string {
	if m := release.FindStringSubmatch(d.version); m != nil {
		return m[1]
	}
	return "0.0.0~git" + d.date.Format("20060102150405") + "." + strings.ReplaceAll(d.version, "-", ".")
}
