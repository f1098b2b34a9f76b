package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// TestKilled_backup kills, at random moments of a backup, the command that makes it or the daemon
// that holds its snapshot. The backup before, or the new one, is there and whole; the next
// succeeds; and nothing is left behind.
func TestKilled_backup(t *testing.T) {
	f := newFaulty(t, inMemory(t))
	f.begin(t)
	target := newRestoreTarget(t)
	for _, kind := range []string{"directory", "file.tar"} {
		t.Run(kind, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), kind) // on a disk, so that it is copied and synced, which takes its time
			var images []*testImage
			push := func() {
				m := newTestImage("app", fmt.Sprint(kind, len(images)), randomBytes(60<<10), randomBytes(10))
				must(t, f.push(t.Context(), m))
				images = append(images, m)
			}
			for range 20 {
				push()
			}
			whole := f.backup(t, to)
			for round := range backupKills {
				safe := slices.Clone(images)
				for range 5 {
					push()
				}
				c := f.command("backup", to)
				var stderr bytes.Buffer
				c.Stderr = &stderr
				must(t, c.Start())
				victim := c.Process
				if round%2 == 1 {
					victim = f.process.Process
				}
				time.Sleep(time.Duration(mathrand.Int64N(int64(whole)))) // any moment is as good as another
				must(t, victim.Kill())
				err := c.Wait()
				if round%2 == 1 {
					f.wait()
					if err != nil && !strings.Contains(stderr.String(), "error: ") {
						t.Errorf("when the daemon is killed, the backup says %v:\n%s", err, &stderr)
					}
					f.start(t)
				}
				f.holdsNothing(t)
				target.restores(t, to, safe)
				f.backup(t, to)
				target.restores(t, to, images)
				if t.Failed() {
					t.Fatalf("in round %d; the backup ended with %v:\n%s", round, err, &stderr)
				}
			}
		})
	}
	f.stop(t)
	f.verify(t)
}

// backup makes a backup, and says how long that took.
func (f *faulty) backup(t *testing.T, to string) time.Duration {
	t.Helper()
	began := time.Now()
	if out, err := f.command("backup", to).CombinedOutput(); err != nil {
		t.Fatalf("back up to %s: %v\n%s", to, err, out)
	}
	return time.Since(began)
}

// holdsNothing waits until the daemon has noticed that a backup has ended, and
// expects nothing left of it.
func (f *faulty) holdsNothing(t *testing.T) {
	t.Helper()
	eventuallyHolds(t, "the snapshot is removed", func() bool {
		left, err := filepath.Glob(f.cfg.Database + ".snapshot-*")
		must(t, err)
		return len(left) == 0
	})
	m := newTestImage("garbage", "v1", randomBytes(1000))
	must(t, f.push(t.Context(), m))
	_, err := f.demand(t.Context(), http.StatusAccepted, http.MethodDelete, m.path()+m.digest.String(), nil)
	must(t, err)
	none := api.Duration(0)
	path := blobFile(f.cfg, digest.FromBytes(m.contents[0]))
	eventuallyHolds(t, "collections remove files again", func() bool {
		_, err := f.admin.GC(t.Context(), api.GCRequest{GracePeriod: &none}, nil)
		must(t, err)
		_, err = os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func blobFile(cfg *config.Config, d digest.Digest) string {
	return filepath.Join(cfg.Storage, d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

// eventuallyHolds polls what must come true, since no event tells it.
func eventuallyHolds(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("it never holds that %s", what)
		}
	}
}

// restoreTarget is a directory that backups are restored to, without a daemon.
type restoreTarget struct{ *faulty }

func newRestoreTarget(t *testing.T) *restoreTarget {
	t.Helper()
	return &restoreTarget{newFaulty(t, inMemory(t))}
}

// empty makes it as it was at first.
func (r *restoreTarget) empty(t *testing.T) {
	t.Helper()
	for _, dir := range []string{r.cfg.Storage, filepath.Dir(r.cfg.Database)} {
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o700))
	}
}

func (r *restoreTarget) restore(from string) *exec.Cmd { return r.command("restore", from) }

// restores restores a backup and expects images in it.
func (r *restoreTarget) restores(t *testing.T, from string, images []*testImage) {
	t.Helper()
	r.empty(t)
	if out, err := r.restore(from).CombinedOutput(); err != nil {
		t.Fatalf("restore from %s: %v\n%s", from, err, out)
	}
	r.has(t, images)
}

// has expects a store that is whole and has images.
func (r *restoreTarget) has(t *testing.T, images []*testImage) {
	t.Helper()
	r.verify(t)
	s, err := store.Open(t.Context(), store.Options{Database: r.cfg.Database, Storage: r.cfg.Storage})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	for _, m := range images {
		if got, err := s.Manifests.ByTag(t.Context(), m.repo, m.tag); err != nil || got.Digest != m.digest {
			t.Errorf("%s:%s is %s, %v", m.repo, m.tag, got.Digest, err)
		}
	}
}

// TestKilled_restore kills a restore again and again. There is no database until all is
// there, and the next goes on.
func TestKilled_restore(t *testing.T) {
	f := newFaulty(t, inMemory(t))
	images := f.fill(t, 150)
	target := newRestoreTarget(t)
	for _, kind := range []string{"directory", "file.tar"} {
		t.Run(kind, func(t *testing.T) {
			from := filepath.Join(t.TempDir(), kind)
			f.backup(t, from)
			target.empty(t)
			began := time.Now()
			must(t, target.restore(from).Run())
			whole := time.Since(began)
			for round, killed := 0, 0; round < backupKills || killed == 0; round++ { // one that ends first proves nothing
				target.empty(t)
				for range 3 { // and what the one before has left
					c := target.restore(from)
					must(t, c.Start())
					time.Sleep(time.Duration(mathrand.Int64N(int64(whole)))) // any moment is as good as another
					must(t, c.Process.Kill())
					if c.Wait() == nil {
						break
					}
					killed++
					if _, err := os.Lstat(target.cfg.Database); err == nil { // it was killed when all was done
						target.has(t, images)
						break
					}
				}
				if _, err := os.Lstat(target.cfg.Database); err != nil {
					if out, err := target.restore(from).CombinedOutput(); err != nil {
						t.Fatalf("after round %d: %v\n%s", round, err, out)
					}
				}
				target.has(t, images)
				if left, _ := filepath.Glob(target.cfg.Database + ".restore*"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// fill makes a store of n images before any daemon has it.
func (f *faulty) fill(t *testing.T, n int) (images []*testImage) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Database: f.cfg.Database, Storage: f.cfg.Storage})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	run, err := s.Runs.Begin(t.Context(), "fill")
	must(t, err)
	for i := range n {
		m := newTestImage(fmt.Sprint("filled/", i%5), fmt.Sprint("v", i), randomBytes(4<<10), randomBytes(1<<10))
		for _, content := range m.contents {
			desc := ocispec.Descriptor{MediaType: "x/y", Digest: digest.FromBytes(content), Size: int64(len(content))}
			must(t, run.PutBlob(t.Context(), m.repo, desc, bytes.NewReader(content)))
		}
		must(t, run.PutManifest(t.Context(), m.repo, ocispec.Descriptor{MediaType: imageType, Digest: m.digest, Size: int64(len(m.body))}, m.body))
		must(t, run.Tag(t.Context(), map[string]map[string]digest.Digest{m.repo: {m.tag: m.digest}}))
		images = append(images, m)
	}
	must(t, run.Commit(t.Context()))
	return images
}

// TestKilled_scrub kills a daemon that scrubs a store with damaged blobs. Each of them stays known,
// in service or out of it, and nothing else is harmed; the scrub after it goes on, and in the end
// all are out of service.
func TestKilled_scrub(t *testing.T) {
	f := newFaulty(t, inMemory(t))
	images := f.fill(t, 200)
	var layers []digest.Digest // in the order of a scrub
	of := map[digest.Digest]*testImage{}
	for _, m := range images {
		d := digest.FromBytes(m.contents[0])
		layers = append(layers, d)
		of[d] = m
	}
	slices.Sort(layers)
	damaged := []digest.Digest{layers[0], layers[40], layers[150], layers[199]} // 150 of 200 is 450 of 600 blobs
	for _, d := range damaged {
		change(t, blobFile(f.cfg, d), func(c []byte) []byte { c[len(c)/2] ^= 0x10; return c })
	}
	f.begin(t)
	scrub := func() chan findings.ScrubReport {
		ended := make(chan findings.ScrubReport, 1)
		go func() {
			report, _ := f.admin.Scrub(t.Context(), api.ScrubRequest{BytesPerSecond: 2 << 20}, nil) // which is killed, or tells by Complete
			ended <- report
		}()
		return ended
	}
	inService := func(d digest.Digest) bool {
		_, err := os.Lstat(blobFile(f.cfg, d))
		return !errors.Is(err, fs.ErrNotExist)
	}
	restart := func() {
		f.kill()
		f.findsDamage(t, of, damaged)
		f.start(t)
	}
	for range backupKills {
		ended := scrub()
		time.Sleep(time.Duration(mathrand.Int64N(int64(200 * time.Millisecond)))) // any moment is as good as another
		restart()
		<-ended
	}
	for ended := true; ended; { // one that comes to its end before it is killed leaves nothing to go on with
		// One of those before may have come to its end. After one that did, the next begins at the
		// beginning, and finds damage again.
		if report := <-scrub(); !report.Complete {
			t.Fatalf("a scrub that nobody kills says %+v", report)
		}
		for _, d := range damaged {
			must(t, f.push(t.Context(), of[d]))
			change(t, blobFile(f.cfg, d), func(c []byte) []byte { c[len(c)/2] ^= 0x10; return c })
		}
		killed := scrub()
		eventuallyHolds(t, "the third is out of service", func() bool { return !inService(damaged[2]) })
		restart()
		<-killed
		ended = !inService(damaged[3])
	}
	report := <-scrub()
	if !report.Complete || report.Damaged != int64(len(damaged)) {
		t.Errorf("the last scrub says %+v", report)
	}
	if !report.Resumed || report.Blobs > 600-256 {
		t.Errorf("the last scrub did not go on where the one before was killed: resumed %t, %d blobs read", report.Resumed, report.Blobs)
	}
	for _, d := range damaged {
		if inService(d) {
			t.Errorf("%s is in service", d)
		}
		must(t, f.push(t.Context(), of[d]))
	}
	pullable(t, f, images)
	f.stop(t)
	f.verify(t)
}

// findsDamage expects verify to find these damaged blobs, or the manifests that need them once they
// are out of service, and nothing else.
func (f *faulty) findsDamage(t *testing.T, of map[digest.Digest]*testImage, damaged []digest.Digest) {
	t.Helper()
	problems := f.problems(t)
	found := map[string]bool{}
	for _, p := range problems {
		found[p.Name] = true
	}
	for _, d := range damaged {
		if found[d.String()] == found[of[d].digest.String()] {
			t.Errorf("%s is damaged: %t, out of service: %t", d, found[d.String()], found[of[d].digest.String()])
		}
	}
	if len(problems) != len(damaged) {
		t.Errorf("verify finds %v", problems)
	}
}
