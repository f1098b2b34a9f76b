// Command dist makes what is handed out: for each architecture an archive with the program, an RPM and a
// DEB, lists of what is in them (CycloneDX), and the checksums of all. A second run makes the same files.
//
// Packages bring the program, its manual pages, completions and its system user. They bring no unit:
// `appliance install` writes that, with the directories that the administrator names.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fips is the version of Go's cryptographic module for the FIPS 140-3 build, that which is certified; see
// lib/fips140 of the Go distribution.
const fips = "certified"

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
}

func run(ctx context.Context, args []string) (err error) {
	var d dist
	f := flag.NewFlagSet("dist", flag.ContinueOnError)
	f.StringVar(&d.root, "root", ".", "the repository")
	f.StringVar(&d.dir, "dir", "dist", "directory to write to")
	f.StringVar(&d.version, "version", "dev", "version of the program")
	arches := f.String("arch", "amd64,arm64,ppc64le,s390x", "architectures, as Go names them")
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

func (d *dist) make(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, "manual pages and completions")
	if err := d.pages(ctx); err != nil {
		return err
	}
	var made []string
	for _, arch := range d.arches {
		for _, b := range []build{{arch: arch}, {arch: arch, fips: true}} {
			fmt.Fprintln(os.Stderr, b.name(d.version))
			files, err := d.release(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", b.name(d.version), err)
			}
			made = append(made, files...)
		}
	}
	return d.checksums(made)
}

// build is a program for an architecture.
type build struct {
	arch string
	fips bool
}

func (b build) name(version string) string {
	if b.fips {
		return "appliance-fips-" + version + "-linux-" + b.arch
	}
	return "appliance-" + version + "-linux-" + b.arch
}

// compile builds the program, with the one that renders Helm charts inside, as make build does.
func (d *dist) compile(ctx context.Context, b build, to string) error {
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + b.arch}
	if b.fips {
		env = append(env, "GOFIPS140="+fips)
	}
	flags := []string{"build", "-trimpath", "-buildvcs=false"}
	helm := filepath.Join(d.tmp, "appliance-helm")
	if err := d.command(ctx, env, "go", append(flags, "-ldflags", "-s -w", "-o", helm, "./cmd/appliance-helm")...); err != nil {
		return err
	}
	if err := compress(helm, helm+".gz"); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(d.root, "cmd", "appliance", "appliance-helm.gz"): helm + ".gz"}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(helm+".json", overlay, 0o600); err != nil {
		return err
	}
	return d.command(ctx, env, "go", append(flags, "-tags", "helm", "-overlay", helm+".json",
		"-ldflags", "-s -w -X main.version="+d.version, "-o", to, "./cmd/appliance")...)
}

// release makes the files of a build, and returns their names.
func (d *dist) release(ctx context.Context, b build) (made []string, err error) {
	name := b.name(d.version)
	program := filepath.Join(d.tmp, "appliance")
	if err := d.compile(ctx, b, program); err != nil {
		return nil, err
	}
	add := func(file string, err error) error {
		if err == nil {
			made = append(made, file)
		}
		return err
	}
	err = add(name+".tar.gz", d.archive(name+".tar.gz", program))
	for from, file := range map[string]string{program: name + ".cdx.json", filepath.Join(d.tmp, "appliance-helm"): name + ".helm.cdx.json"} {
		err = errors.Join(err, add(file, d.contents(ctx, from, file)))
	}
	if !b.fips {
		for _, format := range []string{"rpm", "deb"} {
			file, perr := d.pack(format, b.arch, program)
			err = errors.Join(err, add(file, perr))
		}
	}
	return made, err
}

// contents writes the list of the modules in a program.
func (d *dist) contents(ctx context.Context, program, file string) error {
	return d.command(ctx, nil, "go", "-C", "cmd/dist", "tool", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp",
		"-version", d.version, "-output", filepath.Join(d.dir, file), program)
}

// pages writes manual pages and completions, which the program makes itself.
func (d *dist) pages(ctx context.Context) error {
	program := filepath.Join(d.tmp, "native")
	if err := d.command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-buildvcs=false", "-ldflags", "-X main.version="+d.version, "-o", program, "./cmd/appliance"); err != nil {
		return err
	}
	man := filepath.Join(d.tmp, "man")
	if err := d.command(ctx, []string{"HOME=/nonexistent"}, program, "man", man); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(man, "*.1"))
	for _, page := range pages {
		err = errors.Join(err, compress(page, page+".gz"))
	}
	for _, shell := range shells {
		out, cerr := exec.CommandContext(ctx, program, "completion", shell).Output()
		err = errors.Join(err, cerr, os.WriteFile(filepath.Join(d.tmp, shell), out, 0o600))
	}
	return err
}

var shells = []string{"bash", "zsh", "fish"}

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

// command runs a program in the repository.
func (d *dist) command(ctx context.Context, env []string, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = d.root, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return nil
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
