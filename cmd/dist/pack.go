package main

import (
	"archive/tar"
	"compress/gzip"
	"embed"
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

// packaging has what is in packages alone.
//
//go:embed packaging
var packaging embed.FS

// pack makes a package, and returns its name.
func (d *dist) pack(format, arch, program string) (name string, err error) {
	dir, err := os.MkdirTemp(d.tmp, format)
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(dir, packaging); err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "packaging")
	contents, err := d.packed(format, program, dir)
	if err != nil {
		return "", err
	}
	changes, err := d.changelog(dir)
	if err != nil {
		return "", err
	}
	const summary = "Container registry and mirror for OpenShift without internet"
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "appliance", Arch: arch, Platform: "linux", Version: d.packageVersion(), VersionSchema: "none", Release: "1",
		Section: "admin", Priority: "optional", Maintainer: maintainer, Homepage: "https://github.com/mirror-appliance/appliance",
		Description: summary + "\n" + description, MTime: d.date, Changelog: changes,
		Overridables: nfpm.Overridables{
			Contents: contents, RPM: nfpm.RPM{Summary: summary, BuildHost: "localhost", Group: "System Environment/Daemons"},
			Scripts: nfpm.Scripts{PostInstall: filepath.Join(dir, "installed.sh"), PreRemove: filepath.Join(dir, "removing.sh"),
				PostRemove: filepath.Join(dir, "removed.sh")},
		},
	})
	if format == "rpm" { // dpkg does not know the field
		info.License = "Apache-2.0"
	}
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

const (
	maintainer  = "The appliance project <mirror-appliance@users.noreply.github.com>"
	description = "One program that serves images, mirrors releases, operator catalogs and\ncharts into" +
		" itself, and collects its garbage.\nRun \"appliance install\" to have it serve on this host."
)

// changelog writes the entry of this version, which is all that a package has of it.
func (d *dist) changelog(dir string) (path string, err error) {
	path = filepath.Join(dir, "changelog.yaml")
	text := fmt.Sprintf("- semver: %q\n  date: %s\n  packager: %q\n  deb: {urgency: medium, distributions: [stable]}\n  changes:\n    - note: %q\n",
		d.packageVersion()+"-1", d.date.Format("2006-01-02T15:04:05Z"), maintainer, "Version "+d.version+".")
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// packed lists the files of a package; dir has those that only packages have.
func (d *dist) packed(format, program, dir string) (files.Contents, error) {
	var all files.Contents
	as := func(kind, from, to string, mode os.FileMode) {
		all = append(all, &files.Content{Source: from, Destination: to, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: d.date}})
	}
	add := func(from, to string) { as("", from, to, 0o644) }
	as("", program, "/usr/bin/appliance", 0o755)
	add(filepath.Join(dir, "sysusers.conf"), "/usr/lib/sysusers.d/appliance.conf")
	add(filepath.Join(dir, "appliance-upgrade.service"), "/usr/lib/systemd/system/appliance-upgrade.service")
	add(filepath.Join(dir, "appliance.preset"), "/usr/lib/systemd/system-preset/80-appliance.preset")
	pages, err := filepath.Glob(filepath.Join(d.tmp, "man", "*.1.gz"))
	if err != nil || len(pages) == 0 {
		return nil, errors.Join(errors.New("there are no manual pages"), err)
	}
	for _, page := range pages {
		as(kindOf(format, "doc"), page, "/usr/share/man/man1/"+filepath.Base(page), 0o644)
	}
	add(filepath.Join(d.tmp, "bash"), "/usr/share/bash-completion/completions/appliance")
	add(filepath.Join(d.tmp, "fish"), "/usr/share/fish/vendor_completions.d/appliance.fish")
	docs, err := filepath.Glob(filepath.Join(d.root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	for _, doc := range append(docs, filepath.Join(d.root, "README.md")) {
		if base := filepath.Base(doc); base != "development.md" { // which is about the repository
			as(kindOf(format, "doc"), doc, "/usr/share/doc/appliance/"+base, 0o644)
		}
	}
	licenses := filepath.Join(dir, "LICENSES.gz")
	if err := compress(d.licenseFile(), licenses); err != nil {
		return nil, err
	}
	switch format {
	case "rpm":
		add(filepath.Join(d.tmp, "zsh"), "/usr/share/zsh/site-functions/_appliance")
		as("license", filepath.Join(d.root, "LICENSE"), "/usr/share/licenses/appliance/LICENSE", 0o644)
		as("license", licenses, "/usr/share/licenses/appliance/LICENSES.gz", 0o644)
	case "deb":
		add(filepath.Join(d.tmp, "zsh"), "/usr/share/zsh/vendor-completions/_appliance")
		add(filepath.Join(dir, "copyright"), "/usr/share/doc/appliance/copyright")
		add(licenses, "/usr/share/doc/appliance/LICENSES.gz")
		add(filepath.Join(dir, "lintian"), "/usr/share/lintian/overrides/appliance")
	}
	return all, nil
}

// kindOf is a kind of file that only RPM knows.
func kindOf(format, kind string) string {
	if format == "rpm" {
		return kind
	}
	return ""
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
	}{{program, "appliance", 0o755}, {filepath.Join(d.root, "README.md"), "README.md", 0o644},
		{filepath.Join(d.root, "LICENSE"), "LICENSE", 0o644}, {d.licenseFile(), "LICENSES", 0o644}} {
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
