//go:build e2e

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// kills is how often TestKilled kills.
const kills = 200

// backupKills is how often the tests of backup, restore and scrub do.
const backupKills = 20

// smallDisk is a file system of its own, of so many MiB, with an install directory on it.
func smallDisk(t *testing.T, mebibytes int) (f *faulty, mount string) {
	t.Helper()
	mount, err := os.MkdirTemp("", "disk")
	must(t, err)
	t.Cleanup(func() { must(t, os.Remove(mount)) })
	must(t, syscall.Mount("tmpfs", mount, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)))
	t.Cleanup(func() { must(t, syscall.Unmount(mount, syscall.MNT_DETACH)) })
	return newFaulty(t, mount), mount
}

// isFull reports whether err is the answer of a full disk, with the path and the remedy. It is a
// 4xx, since clients show the body of those.
func isFull(err error, path string) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == http.StatusRequestEntityTooLarge && strings.Contains(string(r.body), "DENIED") &&
		strings.Contains(string(r.body), path) && strings.Contains(string(r.body), "appliance gc")
}

// TestFullDisk fills a small disk, with pushes first and to the last byte then.
func TestFullDisk(t *testing.T) {
	f, mount := smallDisk(t, 96)
	f.begin(t)
	ctx := t.Context()
	var images []*testImage
	for { // until the disk is full
		m := newTestImage("app", fmt.Sprint("v", len(images)), randomBytes(4<<20))
		err := f.push(ctx, m)
		if err != nil {
			if !isFull(err, f.cfg.Storage) {
				t.Fatalf("a push to a full disk ends with %v", err)
			}
			break
		}
		images = append(images, m)
	}
	if len(images) < 10 {
		t.Fatalf("the disk was full after %d images", len(images))
	}
	pullsAll := func() {
		t.Helper()
		for _, m := range images {
			if whole, err := f.pull(ctx, m); err != nil || !whole {
				t.Errorf("pull %s: %t, %v", m.tag, whole, err)
			}
		}
	}
	pullsAll()

	filler, err := os.Create(filepath.Join(mount, "foreign"))
	must(t, err)
	defer filler.Close()
	if _, err := io.Copy(filler, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk ends with %v", err)
	}
	pullsAll()
	if err := f.push(ctx, newTestImage("app", "more", randomBytes(100))); !isFull(err, f.cfg.Storage) {
		t.Errorf("a push of a blob ends with %v", err)
	}
	_, err = f.demand(ctx, http.StatusCreated, http.MethodPut, "/v2/app/manifests/again", bytes.NewReader(images[0].body), "Content-Type", imageType)
	if !isFull(err, mount) {
		t.Errorf("a push of a manifest ends with %v", err)
	}

	t.Run("deletes and collections make space", func(t *testing.T) { f.makesSpace(t, images) })
	if a, err := f.ask(ctx, http.MethodGet, "/metrics", nil); err != nil || !bytes.Contains(a.body, []byte("\nappliance_database_damaged 0\n")) {
		t.Errorf("a full disk counts as damage (%v); the daemon said:\n%s", err, f.said)
	}
	f.stop(t)
	f.verify(t)
}

// makesSpace deletes half of the images from a disk without a free byte, and expects
// to be able to push then.
func (f *faulty) makesSpace(t *testing.T, images []*testImage) {
	ctx := t.Context()
	half := len(images) / 2
	for _, m := range images[:half] {
		if _, err := f.demand(ctx, http.StatusAccepted, http.MethodDelete, m.path()+m.digest.String(), nil); err != nil {
			t.Fatalf("a delete ends with %v; the daemon said:\n%s", err, f.said)
		}
	}
	none := api.Duration(0)
	result, err := f.admin.GC(ctx, api.GCRequest{GracePeriod: &none}, nil)
	must(t, err)
	if least := int64(half) * 4 << 20; result.Bytes < least {
		t.Errorf("a collection freed %d bytes, not %d", result.Bytes, least)
	}
	for i, m := range images {
		if whole, err := f.pull(ctx, m); err != nil || whole != (i >= half) {
			t.Errorf("pull %s: %t, %v", m.tag, whole, err)
		}
	}
	again := newTestImage("app", "again", randomBytes(4<<20))
	must(t, f.push(ctx, again))
	if whole, err := f.pull(ctx, again); err != nil || !whole {
		t.Errorf("pull what was pushed then: %t, %v", whole, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestFullDisk_unfinished fills the disk with one upload that is larger than it, and
// expects its space back.
func TestFullDisk_unfinished(t *testing.T) {
	f, _ := smallDisk(t, 64)
	f.begin(t)
	keep := newTestImage("app", "v1", randomBytes(1<<20))
	must(t, f.push(t.Context(), keep))
	a, err := f.demand(t.Context(), http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil)
	must(t, err)
	_, err = f.demand(t.Context(), http.StatusAccepted, http.MethodPatch, a.header.Get("Location"), io.LimitReader(zeros{}, 100<<20))
	if !isFull(err, f.cfg.Storage) {
		t.Errorf("an upload larger than the disk ends with %v", err)
	}
	must(t, f.push(t.Context(), newTestImage("app", "v2", randomBytes(20<<20))))
	if whole, err := f.pull(t.Context(), keep); err != nil || !whole {
		t.Errorf("pull: %t, %v", whole, err)
	}
}

// TestReadOnlyDisk starts a daemon on a file system that cannot be written.
func TestReadOnlyDisk(t *testing.T) {
	f, mount := smallDisk(t, 64)
	f.begin(t)
	must(t, f.push(t.Context(), newTestImage("app", "v1", randomBytes(1<<20))))
	f.stop(t)
	remount := func(flags uintptr) {
		t.Helper()
		must(t, syscall.Mount("tmpfs", mount, "tmpfs", syscall.MS_REMOUNT|flags, ""))
	}
	remount(syscall.MS_RDONLY)
	f.refuses(t, []string{"serve"}, mount, "read-only")
	remount(0)
	f.start(t)
	f.stop(t)
}
