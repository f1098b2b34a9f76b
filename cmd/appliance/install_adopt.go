package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// unitDir is the directory with the units of what this process installs.
func unitDir() string {
	dirs := installer.UnitDirs(installerDeps())
	if os.Geteuid() == 0 {
		return dirs[0]
	}
	return dirs[len(dirs)-1]
}

// replacesQuay reports whether there is a mirror-registry, and no appliance.
func replacesQuay() bool {
	if fileExists(filepath.Join(unitDir(), "appliance.service")) {
		return false
	}
	info, err := os.Lstat(filepath.Join(unitDir(), "quay-app.service"))
	if err == nil && info.Mode().IsRegular() {
		return true
	}
	text, err := regular.ReadFile(adopt.QuadletFile(unitDir()))
	return err == nil && adopt.IsQuadlet(string(text))
}

// takeOver completes a request by the mirror-registry whose place the appliance is to take: the same
// name, port and certificates, directories beside its own, and its content. report prints what became
// of that, or would.
func (o *installOptions) takeOver(ctx context.Context, std stdio, request *installer.Request) (report func(), err error) {
	quay, err := adopt.FindQuay(ctx, unitDir(), installer.RetiredSuffix)
	if err != nil {
		return nil, err
	}
	if request.Hostname == "" && request.Port == 0 {
		if request.Hostname, request.Port, err = splitHostPort(quay.Hostname); err != nil {
			return nil, fmt.Errorf("the hostname of the mirror-registry: %w", err)
		}
	}
	if request.QuayRoot == "" {
		request.QuayRoot = filepath.Join(filepath.Dir(quay.Root), "appliance-install")
	}
	if request.QuayStorage == "" && !sameFileSystem(quay.Storage, filepath.Dir(quay.Root)) &&
		!strings.Contains(quay.Storage, "/containers/storage/") { // where the service has no way in
		request.QuayStorage = quay.Storage + "-appliance"
	}
	source, err := quay.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if request.InitUser == "" {
		request.InitUser = source.InitUser()
	}
	public, err := source.Public(ctx)
	if err != nil {
		return nil, err
	}
	var did adopt.Report
	say := nowAndThen(std.err)
	request.TakeOver = &installer.TakeOver{
		Quay: quay, Public: public, Report: func(r adopt.Report) { did = r },
		Progress: func(r adopt.Report) {
			say("%s, %s, %s", count(r.Manifests, "manifest"), count(r.Blobs, "blob"), bytesOf(r.BlobBytes))
		},
	}
	if o.dryRun {
		if did, err = adopt.Import(ctx, source, adopt.Options{}); err == nil {
			err = source.ImportUsers(ctx, nil, &did)
		}
	}
	return func() {
		if did.Repositories > 0 || len(did.Users) > 0 {
			printAdopt(std.out, did, o.dryRun)
		}
		if !o.dryRun && !o.clean {
			fmt.Fprintf(std.out, "the mirror-registry in %s is still there; to remove it: %s\n", plain.Line(quay.Root), typed("appliance install --cleanup"))
		}
	}, err
}

func sameFileSystem(a, b string) bool {
	device := func(path string) (uint64, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false
		}
		return info.Sys().(*syscall.Stat_t).Dev, true
	}
	of, ok := device(a)
	other, ok2 := device(b)
	return ok && ok2 && of == other
}
