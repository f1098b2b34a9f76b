package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/installer/adopt"
)

// distribution is the directory of a distribution registry.
type distribution string

func (dir distribution) write(t *testing.T, name string, content []byte) {
	t.Helper()
	file := filepath.Join(string(dir), "docker/registry/v2", name)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, content, 0o644))
}

func (dir distribution) blob(d digest.Digest) string {
	return filepath.Join("blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

func (dir distribution) file(d digest.Digest) string {
	return filepath.Join(string(dir), "docker/registry/v2", dir.blob(d))
}

// push writes an image as the registry does.
func (dir distribution) push(t *testing.T, m *testImage) {
	t.Helper()
	repository := "repositories/" + m.repo + "/"
	for _, content := range append([][]byte{m.body}, m.contents...) {
		d := digest.FromBytes(content)
		dir.write(t, dir.blob(d), content)
		dir.write(t, repository+"_layers/sha256/"+d.Encoded()+"/link", []byte(d))
	}
	dir.write(t, repository+"_manifests/revisions/sha256/"+m.digest.Encoded()+"/link", []byte(m.digest))
	dir.write(t, repository+"_manifests/tags/"+m.tag+"/current/link", []byte(m.digest))
}

// newDistribution has images with large and small layers, some of them in several repositories.
func newDistribution(t *testing.T, n int) (dir distribution, images []*testImage) {
	t.Helper()
	dir = distribution(t.TempDir())
	shared := randomBytes(2 << 20)
	for i := range n {
		m := newTestImage(fmt.Sprintf("team/app%d", i%3), fmt.Sprint("v", i), shared, randomBytes(1<<20), randomBytes(100))
		dir.push(t, m)
		images = append(images, m)
	}
	return dir, images
}

// adopts runs the command, and returns its report.
func (f *faulty) adopts(t *testing.T, wantCode int, args ...string) (r adopt.Report) {
	t.Helper()
	c := f.command(append([]string{"adopt", "-o", "json"}, args...)...)
	c.SysProcAttr = nil // root calls it
	code, stdout, stderr := outcome(t, c)
	if code != wantCode {
		t.Fatalf("adopt %v ended with %d\n%s%s", args, code, stdout, stderr)
	}
	must(t, json.Unmarshal([]byte(stdout), &r))
	return r
}

// TestAdopt_storeOfTheRealRegistry has a store that distribution 3.1.0 has written: images of OCI, of
// Docker and without a media type, an index, a repository within another, a deleted image, an upload.
func TestAdopt_storeOfTheRealRegistry(t *testing.T) {
	dir := t.TempDir()
	extract(t, "testdata/adopt/distribution.tar.gz", dir)
	f := newFaulty(t, "")
	f.begin(t)
	if r := f.adopts(t, 0, dir); r.Repositories != 3 || r.Manifests != 6 || r.Tags != 4 || len(r.Problems) > 0 {
		t.Errorf("the report is %+v", r)
	}
	for path, mediaType := range map[string]string{
		"one/manifests/latest":       imageType,
		"one/manifests/docker":       "application/vnd.docker.distribution.manifest.v2+json",
		"team/deep/two/manifests/v1": imageType,
		"team/deep/manifests/both":   "application/vnd.oci.image.index.v1+json",
	} {
		a, err := f.demand(t.Context(), 200, "GET", "/v2/"+path, nil)
		must(t, err)
		if got := a.header.Get("Content-Type"); got != mediaType {
			t.Errorf("%s is of type %s", path, got)
		}
	}
	if a, err := f.ask(t.Context(), "GET", "/v2/one/manifests/gone", nil); err != nil || a.status != 404 {
		t.Errorf("the deleted image is there: %v, %v", a.status, err)
	}
	f.stop(t)
	f.verify(t)
}

func extract(t *testing.T, archive, dir string) {
	t.Helper()
	file, err := os.Open(archive)
	must(t, err)
	defer file.Close()
	plain, err := gzip.NewReader(file)
	must(t, err)
	for files := tar.NewReader(plain); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			must(t, os.MkdirAll(name, 0o755))
			continue
		}
		content, err := io.ReadAll(files)
		must(t, err)
		must(t, os.WriteFile(name, content, 0o644))
	}
}

// TestAdopt_everythingAndTwice imports into a daemon that serves, and into a store without one.
func TestAdopt_everythingAndTwice(t *testing.T) {
	dir, images := newDistribution(t, 6)
	f := newFaulty(t, filepath.Dir(string(dir))) // on one file system
	f.begin(t)
	if r := f.adopts(t, 0, string(dir), "--dry-run"); r.Manifests != 6 || r.Tags != 6 || r.Blobs != 19 || len(r.Problems) > 0 {
		t.Errorf("the dry run reports %+v", r)
	}
	if whole, err := f.pull(t.Context(), images[0]); whole || err != nil {
		t.Fatalf("a dry run imports: %v, %v", whole, err)
	}
	r := f.adopts(t, 0, string(dir))
	if r.Linked+r.Cloned != 7 || r.Copied != 12 || r.Blobs != 19 || r.Removed != 0 {
		t.Errorf("the report is %+v", r)
	}
	pullable(t, f, images)
	f.stop(t)
	if r := f.adopts(t, 0, string(dir)); r.Kept != 19 || r.Manifests != 6 || r.Linked+r.Cloned+r.Copied != 0 {
		t.Errorf("the second time it reports %+v", r)
	}
	f.verify(t)
	for _, m := range images {
		for d := range m.blobs {
			if _, err := os.Stat(dir.file(d)); err != nil {
				t.Errorf("the source is changed: %v", err)
			}
		}
	}
}

// TestAdopt_moveByRoot: the store stays its owner's, the files of layers go, and another import takes
// the tags as they are by then.
func TestAdopt_moveByRoot(t *testing.T) {
	f := newFaulty(t, "")
	dir, images := newDistribution(t, 3)
	if os.Geteuid() == 0 {
		f.become(t, 65534)
	}
	f.begin(t)
	other := filepath.Join(string(dir), "other") // a file of another user, linked here so that it is given away
	must(t, os.Link(dir.file(digest.FromBytes(images[0].contents[1])), other))
	if r := f.adopts(t, 0, string(dir), "--move"); r.Removed != r.Blobs || r.Blobs != 10 {
		t.Errorf("the report is %+v", r)
	}
	pullable(t, f, images)
	for d := range images[0].blobs {
		if _, err := os.Stat(dir.file(d)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("layer %s is still in the directory: %v", d, err)
		}
	}
	moved := newTestImage(images[0].repo, images[0].tag, randomBytes(10))
	must(t, f.push(t.Context(), moved))
	r := f.adopts(t, 1, string(dir), "--move")
	if len(r.Problems) != 1 || r.Problems[0].Name != moved.tag || !strings.Contains(r.Problems[0].What, "left as it is") {
		t.Errorf("the problems are %v", r.Problems)
	}
	a, err := f.demand(t.Context(), 200, "GET", moved.path()+moved.tag, nil)
	must(t, err)
	if got := a.header.Get("Docker-Content-Digest"); got != moved.digest.String() {
		t.Errorf("the tag names %s", got)
	}
	f.stop(t)
	f.verify(t)
	if os.Geteuid() == 0 {
		f.belongs(t, 65534, f.cfg.Storage)
		f.belongs(t, 0, other)
	}
}

// TestAdopt_damaged checks that what does not verify is left out and listed, and that its file stays.
func TestAdopt_damaged(t *testing.T) {
	f := newFaulty(t, "")
	f.begin(t)
	dir, images := newDistribution(t, 5)
	flip := func(d digest.Digest) {
		content, err := os.ReadFile(dir.file(d))
		must(t, err)
		content[0] ^= 1
		must(t, os.WriteFile(dir.file(d), content, 0o644))
	}
	large, small := digest.FromBytes(images[0].contents[1]), digest.FromBytes(images[1].contents[2])
	flip(large)
	flip(small)
	flip(images[2].digest)
	must(t, os.Remove(dir.file(digest.FromBytes(images[3].contents[3]))))
	r := f.adopts(t, 1, string(dir), "--move")
	if r.Manifests != 1 || r.Tags != 1 || len(r.Problems) != 8 {
		t.Errorf("the report is %+v", r)
	}
	said := fmt.Sprint(r.Problems)
	for _, want := range []string{large.String() + " has other content", small.String() + " has other content",
		images[2].digest.String() + ": its content has another digest", "is missing", images[0].repo + ":" + images[0].tag} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q: %s", want, said)
		}
	}
	for _, d := range []digest.Digest{large, small} {
		if _, err := os.Stat(dir.file(d)); err != nil {
			t.Errorf("a damaged layer is not left for examination: %v", err)
		}
	}
	pullable(t, f, images[4:])
	f.stop(t)
	f.verify(t)
}

// TestAdopt_killed kills the command, at other moments each time, and lets the last one end.
func TestAdopt_killed(t *testing.T) {
	f := newFaulty(t, "")
	dir, images := newDistribution(t, 60)
	f.begin(t)
	for i := range 5 {
		c := f.command("adopt", string(dir), "--move")
		c.SysProcAttr = nil
		must(t, c.Start())
		time.Sleep(time.Duration(60+60*i) * time.Millisecond)
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	if r := f.adopts(t, 0, string(dir), "--move"); r.Manifests != 60 || len(r.Problems) > 0 {
		t.Errorf("the report is %+v", r)
	}
	pullable(t, f, images)
	f.stop(t)
	f.verify(t)
}

// TestAdopt_refusals: what is not a registry, and links that lead out of its directory.
func TestAdopt_refusals(t *testing.T) {
	f := newFaulty(t, "")
	f.begin(t)
	_, _, stderr := outcome(t, f.command("adopt", t.TempDir()))
	if !strings.Contains(stderr, "is not the directory of a distribution registry") || !strings.Contains(stderr, "rootdirectory") {
		t.Errorf("it says %s", stderr)
	}
	dir, images := newDistribution(t, 1)
	layer := digest.FromBytes(images[0].contents[0])
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.WriteFile(elsewhere, images[0].contents[0], 0o600))
	must(t, os.Remove(dir.file(layer)))
	must(t, os.Symlink(elsewhere, dir.file(layer)))
	r := f.adopts(t, 1, string(dir))
	if len(r.Problems) != 2 || !strings.Contains(r.Problems[0].What, "cannot be read") {
		t.Errorf("the problems are %v", r.Problems)
	}
	if content, err := os.ReadFile(elsewhere); err != nil || !bytes.Equal(content, images[0].contents[0]) {
		t.Errorf("the file outside is changed: %v", err)
	}
	link := func(to, from string) {
		must(t, os.Rename(filepath.Join(string(dir), "docker/registry/v2", from), to))
		must(t, os.Symlink(to, filepath.Join(string(dir), "docker/registry/v2", from)))
	}
	link(filepath.Join(t.TempDir(), "moved"), "repositories/"+images[0].repo)
	r = f.adopts(t, 1, string(dir))
	if len(r.Problems) != 1 || r.Problems[0].Repository != images[0].repo || !strings.Contains(r.Problems[0].What, "symbolic link") || r.Repositories != 0 {
		t.Errorf("of a repository that is a symbolic link the report is %+v", r)
	}
	link(filepath.Join(t.TempDir(), "blobs"), "blobs")
	if code, _, stderr := outcome(t, f.command("adopt", string(dir))); code != 1 || !strings.Contains(stderr, "mount --bind") {
		t.Errorf("of blobs elsewhere it says %s", stderr)
	}
}

// TestAdopt_copies to another file system, and where the caller wants no links.
func TestAdopt_copies(t *testing.T) {
	dir, images := newDistribution(t, 3)
	for name, at := range map[string]struct{ parent, flag string }{
		"across": {inMemory(t), "--link"}, "within": {filepath.Dir(string(dir)), "--copy"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t, at.parent)
			f.begin(t)
			if r := f.adopts(t, 0, string(dir), at.flag); r.Copied+r.Cloned != 10 || r.Linked != 0 {
				t.Errorf("the report is %+v", r)
			}
			pullable(t, f, images)
			f.stop(t)
			f.verify(t)
		})
	}
}
