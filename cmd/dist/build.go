package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// fips is the version of Go's cryptographic module for the FIPS 140-3 build, that which is certified; see
// lib/fips140 of the Go distribution.
const fips = "certified"

// build is a program for an architecture.
type build struct {
	arch string
	fips bool

	program, helm string // compiled; helm is the one that renders charts, which is inside the other
}

func (b *build) name(version string) string {
	if b.fips {
		return "appliance-fips-" + version + "-linux-" + b.arch
	}
	return "appliance-" + version + "-linux-" + b.arch
}

// environment is what decides on the bytes of a program, whatever the caller has set.
func (b *build) environment() []string {
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + b.arch, "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off",
		"GOAMD64=", "GOARM64=", "GOPPC64="}
	if b.fips {
		return append(env, "GOFIPS140="+fips)
	}
	return append(env, "GOFIPS140=off")
}

// compile builds the program, with the one that renders Helm charts inside, as make build does.
func (d *dist) compile(ctx context.Context, b *build) error {
	if b.program != "" {
		return nil
	}
	dir := filepath.Join(d.tmp, b.name(d.version))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	flags := []string{"build", "-trimpath", "-buildvcs=false"}
	b.helm = filepath.Join(dir, "appliance-helm")
	if err := d.command(ctx, b.environment(), "go", append(flags, "-ldflags", "-s -w", "-o", b.helm, "./cmd/appliance-helm")...); err != nil {
		return err
	}
	if err := compress(b.helm, b.helm+".gz"); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(d.root, "cmd", "appliance", "appliance-helm.gz"): b.helm + ".gz"}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.helm+".json", overlay, 0o600); err != nil {
		return err
	}
	b.program = filepath.Join(dir, "appliance")
	return d.command(ctx, b.environment(), "go", append(flags, "-tags", "helm", "-overlay", b.helm+".json",
		"-ldflags", fmt.Sprintf("-s -w -X main.version=%s -X main.built=%d", d.version, d.date.Unix()), "-o", b.program, "./cmd/appliance")...)
}

// release makes the files of a build, and returns their names.
func (d *dist) release(ctx context.Context, b *build) (made []string, err error) {
	began := time.Now()
	if err := d.compile(ctx, b); err != nil {
		return nil, err
	}
	compiled := time.Since(began)
	name := b.name(d.version)
	made = []string{name + ".tar.gz", name + ".cdx.json", name + ".helm.cdx.json"}
	var work errgroup.Group
	work.Go(func() error { return d.archive(made[0], b.program) })
	work.Go(func() error {
		return errors.Join(d.contents(ctx, b.program, made[1]), d.contents(ctx, b.helm, made[2]))
	})
	if !b.fips {
		for _, format := range formats {
			file, perr := d.pack(format, b.arch, b.program)
			made, err = append(made, file), errors.Join(err, perr)
		}
	}
	err = errors.Join(err, work.Wait())
	fmt.Fprintf(os.Stderr, "%s: compiled in %.0f s, packed in %.0f s\n", name, compiled.Seconds(), (time.Since(began) - compiled).Seconds())
	return made, err
}

// contents writes the list of the modules in a program. The list has a digest of the tool itself, which
// therefore is built the same each time too.
func (d *dist) contents(ctx context.Context, program, file string) error {
	env := append((&build{arch: runtime.GOARCH}).environment(), "GOFLAGS=-trimpath")
	return d.command(ctx, env, "go", "-C", "cmd/dist", "tool", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp",
		"-version", d.version, "-output", filepath.Join(d.dir, file), program)
}

// pages writes manual pages and completions, which the program for this machine makes, and returns its
// build.
func (d *dist) pages(ctx context.Context) (*build, error) {
	b := &build{arch: runtime.GOARCH}
	if err := d.compile(ctx, b); err != nil {
		return nil, err
	}
	man := filepath.Join(d.tmp, "man")
	if err := d.command(ctx, []string{"HOME=/nonexistent"}, b.program, "man", man); err != nil {
		return nil, err
	}
	pages, err := filepath.Glob(filepath.Join(man, "*.1"))
	for _, page := range pages {
		err = errors.Join(err, compress(page, page+".gz"))
	}
	for _, shell := range shells {
		out, cerr := exec.CommandContext(ctx, b.program, "completion", shell).Output()
		err = errors.Join(err, cerr, os.WriteFile(filepath.Join(d.tmp, shell), out, 0o600))
	}
	return b, err
}

var shells, formats = []string{"bash", "zsh", "fish"}, []string{"rpm", "deb"}

// command runs a program in the repository.
func (d *dist) command(ctx context.Context, env []string, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = d.root, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return nil
}
