package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the packagers that pack names
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// sysusers is as the installer writes it.
const sysusers = "# The user that the service of the appliance runs as.\nu appliance - \"Mirror appliance\"\n"

// pack makes a package, and returns its name.
func (d *dist) pack(format, arch, program string) (name string, err error) {
	contents, err := d.packed(program)
	if err != nil {
		return "", err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "appliance", Arch: arch, Platform: "linux", Version: d.packageVersion(), VersionSchema: "none", Release: "1",
		Section: "admin", Priority: "optional", Maintainer: "The appliance project <appliance@localhost>",
		Description:  "Container registry and mirror for OpenShift without internet\nRun `appliance install` to put it on this host as a service.",
		License:      "Apache-2.0",
		MTime:        d.date,
		Overridables: nfpm.Overridables{Contents: contents, RPM: nfpm.RPM{Summary: "Container registry and mirror for OpenShift without internet", BuildHost: "localhost"}},
	})
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	name = packager.ConventionalFileName(info)
	f, err := os.Create(filepath.Join(d.dir, name))
	if err != nil {
		return "", err
	}
	err = packager.Package(info, f)
	return name, errors.Join(err, f.Close())
}

// packed lists the files of a package.
func (d *dist) packed(program string) (files.Contents, error) {
	users := filepath.Join(d.tmp, "sysusers")
	if err := os.WriteFile(users, []byte(sysusers), 0o600); err != nil {
		return nil, err
	}
	var all files.Contents
	add := func(from, to, packager string, mode os.FileMode) {
		all = append(all, &files.Content{Source: from, Destination: to, Packager: packager,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: d.date}})
	}
	add(program, "/usr/bin/appliance", "", 0o755)
	add(users, "/usr/lib/sysusers.d/appliance.conf", "", 0o644)
	pages, err := filepath.Glob(filepath.Join(d.tmp, "man", "*.1.gz"))
	if err != nil || len(pages) == 0 {
		return nil, fmt.Errorf("there are no manual pages: %w", err)
	}
	for _, page := range pages {
		add(page, "/usr/share/man/man1/"+filepath.Base(page), "", 0o644)
	}
	add(filepath.Join(d.tmp, "bash"), "/usr/share/bash-completion/completions/appliance", "", 0o644)
	add(filepath.Join(d.tmp, "fish"), "/usr/share/fish/vendor_completions.d/appliance.fish", "", 0o644)
	add(filepath.Join(d.tmp, "zsh"), "/usr/share/zsh/site-functions/_appliance", "rpm", 0o644)
	add(filepath.Join(d.tmp, "zsh"), "/usr/share/zsh/vendor-completions/_appliance", "deb", 0o644)
	for _, doc := range []string{"README.md", "docs/install.md", "docs/mirror.md", "docs/operate.md", "docs/cluster.md", "docs/medium.md", "docs/security.md"} {
		add(filepath.Join(d.root, doc), "/usr/share/doc/appliance/"+filepath.Base(doc), "", 0o644)
	}
	return all, nil
}

// archive writes the program into a .tar.gz, in a directory of the archive's name.
func (d *dist) archive(name, program string) (err error) {
	f, err := os.Create(filepath.Join(d.dir, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zipped, err := gzip.NewWriterLevel(f, gzip.BestCompression) // whose header has neither name nor time
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zipped)
	for _, file := range []struct {
		from, name string
		mode       int64
	}{{program, "appliance", 0o755}, {filepath.Join(d.root, "README.md"), "README.md", 0o644}} {
		h := tar.Header{Name: strings.TrimSuffix(name, ".tar.gz") + "/" + file.name, Mode: file.mode, ModTime: d.date, Format: tar.FormatUSTAR}
		if err := addFile(archive, file.from, h); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zipped.Close())
}

func addFile(to *tar.Writer, from string, h tar.Header) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := to.WriteHeader(&h); err != nil {
		return err
	}
	_, err = io.Copy(to, f)
	return err
}

// compress writes a file that always has the same bytes for the same content.
func compress(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	zipped, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = io.Copy(zipped, in)
	return errors.Join(err, zipped.Close())
}
