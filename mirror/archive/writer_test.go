package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Spec: oc-mirror 8.2, 8.6.
func TestWriter_entriesAreThoseOfOCMirror(t *testing.T) {
	b := newWorkbench(t)
	i := newImage([]byte("layer"))
	b.begin()
	b.put("team/app", "v1", i)
	b.commit()
	var got []string
	for _, f := range b.all() {
		got = append(got, f.name)
	}
	repo := "docker/registry/v2/repositories/team/app/"
	path := func(d digest.Digest) string { return "sha256/" + d.Encoded() + "/link" }
	want := []string{
		"appliance-chunk.json", blobFile(i.config.Digest, nil).name, blobFile(i.layer.Digest, nil).name, blobFile(i.manifest.Digest, nil).name,
		repo + "_manifests/revisions/" + path(i.manifest.Digest), repo + "_layers/" + path(i.config.Digest), repo + "_layers/" + path(i.layer.Digest),
		repo + "_manifests/tags/v1/current/link",
		"working-dir/internal/oc-mirror-version.json", "isc_2026-11-20T22:58:34Z", "appliance-archive.json",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the entries are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, f := range b.all() {
		if strings.HasSuffix(f.name, "/link") && len(f.data) != 71 {
			t.Errorf("%s has %q", f.name, f.data)
		}
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// Spec: oc-mirror 8.3.
func TestWriter_chunksAreNoLargerThanAsked(t *testing.T) {
	b := newWorkbench(t)
	b.begin(smallChunks)
	var all []image
	for n := range 12 {
		all = append(all, newImage(noise(byte(n), 20<<10+n*777)))
	}
	large := newImage(noise(99, 100<<10))
	var g errgroup.Group
	for n, i := range append(all, large) {
		g.Go(func() error {
			return b.writer.PutBlob(t.Context(), "team/app", i.layer, bytes.NewReader(append(all, large)[n].content))
		})
	}
	must(t, g.Wait())
	for n, i := range append(all, large) {
		b.put("team/app", fmt.Sprint("v", n), i)
	}
	b.commit()
	sizes := map[bool]int{}
	for _, c := range b.chunks() {
		info, err := os.Stat(c)
		must(t, err)
		sizes[info.Size() > 64<<10]++
		if info.Size() > 64<<10 {
			if got := names(readTar(t, c), ""); len(got) != 2 || got[1] != blobFile(large.layer.Digest, nil).name {
				t.Errorf("%s has %v", c, got)
			}
		}
	}
	if sizes[true] != 1 || sizes[false] < 4 {
		t.Errorf("chunks over the limit, and others: %v", sizes)
	}
	a := b.open()
	for _, i := range all {
		body, _, err := a.Repository("team/app", "team/app").Blob(t.Context(), i.layer.Digest)
		must(t, err)
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, i.content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

func planOf(i image) *plan.Plan {
	p := &plan.Plan{Images: []*plan.Image{{Origin: "quay.io/team/app:v1", Repository: "team/app", Tag: "v1", Digest: i.manifest.Digest, Manifests: []plan.Manifest{
		{Descriptor: i.manifest, Body: i.body, Blobs: []ocispec.Descriptor{i.config, i.layer}},
	}}}}
	p.Measure()
	return p
}

func TestWriter_Planned(t *testing.T) {
	i := newImage(noise(1, 100<<10))
	t.Run("a file that is larger than a chunk is refused if that is asked for", func(t *testing.T) {
		b := newWorkbench(t)
		err := b.begin(smallChunks, func(o *archive.Options) { o.Strict = true }).Planned(t.Context(), planOf(i))
		if err == nil || !strings.Contains(err.Error(), "is too small compared to sizes of files") || !strings.Contains(hint.Of(err), "archiveSize: 1") {
			t.Errorf("error %v, %s", err, hint.Of(err))
		}
		if left := b.leftovers(); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
	t.Run("a plan that does not fit on the medium is refused", func(t *testing.T) {
		p := planOf(i)
		p.Missing = 1 << 60
		err := newWorkbench(t).begin().Planned(t.Context(), p)
		var refused interface{ Refused() bool }
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "free") || hint.Of(err) == "" {
			t.Errorf("error %v, %s", err, hint.Of(err))
		}
	})
	t.Run("what an interrupted run wrote and the plan does not want makes place", func(t *testing.T) {
		b := newWorkbench(t)
		b.begin()
		old := newImage(noise(2, 100<<10))
		must(t, b.writer.PutBlob(t.Context(), "team/app", old.layer, bytes.NewReader(old.content)))
		must(t, b.begin().Planned(t.Context(), planOf(i)))
		b.put("team/app", "v1", i)
		b.commit()
		if info, err := os.Stat(b.chunks()[0]); err != nil || info.Size() > 120<<10 {
			t.Errorf("the chunk has %d bytes, %v", info.Size(), err)
		}
	})
}

// Spec: oc-mirror 8.4.
func TestWriter_incrementsLeaveOutWhatIsInTheHistory(t *testing.T) {
	b := newWorkbench(t)
	first, second := newImage([]byte("first")), newImage([]byte("second"))
	b.begin()
	b.put("team/app", "v1", first)
	b.commit()
	b.begin()
	b.put("team/app", "v1", first)
	b.put("team/app", "v2", second)
	b.commit()
	files := b.all()
	for _, tc := range []struct {
		what string
		d    digest.Digest
		want int
	}{
		{"the old layer", first.layer.Digest, 0}, {"the old config", first.config.Digest, 0}, {"the new layer", second.layer.Digest, 1},
		{"the old manifest", first.manifest.Digest, 1}, {"the new manifest", second.manifest.Digest, 1},
	} {
		if got := names(files, blobFile(tc.d, nil).name); len(got) != tc.want {
			t.Errorf("%s is in the archive %d times", tc.what, len(got))
		}
	}
	if got := names(files, "_layers/sha256/"+first.layer.Digest.Encoded()); len(got) != 1 {
		t.Errorf("links of the old layer: %v", got)
	}
	if got := names(files, ".history"); len(got) > 0 {
		t.Errorf("the history is in the archive: %v", got)
	}
	t.Run("since a day before the first, all of it is carried", func(t *testing.T) {
		b.begin(func(o *archive.Options) { o.Since = b.clock.AddDate(0, 0, -1) })
		if b.held(first.layer.Digest) {
			t.Error("the history is used")
		}
	})
	t.Run("a name without a time in the history is an error", func(t *testing.T) {
		path := filepath.Join(b.dir, "working-dir/.history/.history-yesterday")
		must(t, os.WriteFile(path, nil, 0o644))
		if _, err := b.create(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v", err)
		}
	})
}

// A blob that nothing tags is not imported, and must not be left out of the next archive.
func TestWriter_historyHasWhatIsTagged(t *testing.T) {
	b := newWorkbench(t)
	whole, failed := newImage([]byte("whole")), newImage([]byte("failed"))
	b.begin()
	must(t, b.writer.PutBlob(t.Context(), "team/app", failed.layer, bytes.NewReader(failed.content)))
	b.put("team/app", "v1", whole)
	b.commit()
	b.begin()
	if !b.held(whole.layer.Digest) || b.held(failed.layer.Digest) {
		t.Errorf("held: the layer that is tagged %v, the other %v", b.held(whole.layer.Digest), b.held(failed.layer.Digest))
	}
}

// Spec: oc-mirror 8.1.
func TestWriter_anArchiveStaysUntilAnotherIsWhole(t *testing.T) {
	b := newWorkbench(t)
	b.begin()
	b.put("team/app", "v1", newImage([]byte("old")))
	b.commit()
	before, err := os.ReadFile(b.chunks()[0])
	must(t, err)
	stays := func(what string) {
		t.Helper()
		if after, err := os.ReadFile(b.chunks()[0]); err != nil || !bytes.Equal(before, after) || len(b.chunks()) != 1 {
			t.Errorf("%s: the chunks are %v, changed %v, %v", what, b.chunks(), !bytes.Equal(before, after), err)
		}
	}
	i := newImage([]byte("new"))
	b.begin()
	b.put("team/app", "v2", i)
	stays("a run")
	must(t, b.writer.Abort(t.Context()))
	stays("a run that was aborted")
	b.begin()
	must(t, b.writer.Commit(t.Context()))
	stays("a run without images")
	listed, err := os.ReadDir(b.dir)
	must(t, err)
	b.begin(func(o *archive.Options) { o.DryRun = true })
	if !b.held(i.layer.Digest) {
		t.Error("a dry run does not see what an interrupted run wrote")
	}
	must(t, b.writer.Planned(t.Context(), planOf(i)))
	if err := b.writer.PutBlob(t.Context(), "a", i.config, strings.NewReader("{}")); err == nil {
		t.Error("a dry run writes")
	}
	must(t, b.writer.Abort(t.Context()))
	b.close()
	if now, err := os.ReadDir(b.dir); err != nil || len(now) != len(listed) {
		t.Errorf("a dry run leaves %v, %v", now, err)
	}
	stays("a dry run")
}

func TestWriter_twoRunsDoNotShareADirectory(t *testing.T) {
	b := newWorkbench(t)
	b.begin()
	w, err := archive.Create(t.Context(), archive.Options{Dir: b.dir})
	if err == nil || !strings.Contains(err.Error(), b.dir) || hint.Of(err) == "" {
		t.Errorf("got %v, %v", w, err)
	}
}

func TestWriter_PutBlob_sizesThatCannotBe(t *testing.T) {
	b := newWorkbench(t)
	b.begin()
	for _, size := range []int64{-1, 1 << 50, 1<<63 - 1} {
		d := describe("x/y", []byte("x"))
		d.Size = size
		if err := b.writer.PutBlob(t.Context(), "a", d, strings.NewReader("x")); err == nil {
			t.Errorf("%d bytes are taken", size)
		}
	}
	for _, n := range []int{0, 511, 512, 513} { // the next one begins right behind
		data := noise(byte(n), n)
		must(t, b.writer.PutBlob(t.Context(), "a", describe("x/y", data), bytes.NewReader(data)))
		err := b.writer.PutBlob(t.Context(), "a", describe("x/y", data[:n/2]), bytes.NewReader(data))
		if err == nil && n > 0 {
			t.Errorf("%d bytes in the place of %d", n, n/2)
		}
	}
	b.put("a", "v1", newImage([]byte("layer")))
	b.commit()
	a := b.open()
	for _, n := range []int{0, 511, 512, 513} {
		data := noise(byte(n), n)
		body, size, err := a.Repository("a", "a").Blob(t.Context(), digest.FromBytes(data))
		must(t, err)
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, data) || size != int64(n) {
			t.Errorf("%d of %d bytes, %v", len(got), n, err)
		}
	}
}

// What comes after a blob that failed takes its place, unless that is much more than what failed.
func TestWriter_blobThatFails(t *testing.T) {
	for name, tc := range map[string]struct{ next, unused int }{
		"little comes after it":               {400, 0},
		"more comes after it":                 {300_000, 0},
		"so much that it is not worth moving": {900_000, 1},
	} {
		t.Run(name, func(t *testing.T) { blobThatFails(t, tc.next, tc.unused) })
	}
}

func blobThatFails(t *testing.T, length, unused int) {
	t.Helper()
	b := newWorkbench(t)
	b.begin()
	failed := newImage(noise(7, 50_000))
	dead := errors.New("the line is dead")
	var g errgroup.Group
	stop := make(chan struct{})
	g.Go(func() error { // holds its place while the next is written behind it
		err := b.writer.PutBlob(t.Context(), "a", failed.layer, io.MultiReader(bytes.NewReader(failed.content[:3000]), &waiting{stop, dead}))
		if !errors.Is(err, dead) {
			return fmt.Errorf("error %w", err)
		}
		return nil
	})
	for !hasPartial(b) {
	}
	next := newImage(noise(8, length))
	b.put("a", "v1", next)
	close(stop)
	must(t, g.Wait())
	b.commit()
	files := b.all()
	if got := names(files, "appliance-unused"); len(got) != unused {
		t.Errorf("entries without a meaning: %v", got)
	}
	if err := verify(b.open().Repository("a", "a"), next.layer.Digest); err != nil {
		t.Error(err)
	}
	if got := names(files, failed.layer.Digest.Encoded()); len(got) > 0 {
		t.Errorf("half of it is there: %v", got)
	}
}

// A blob that is tried again has another right behind its place.
func TestWriter_PutBlob_sourceThatSendsMoreLeavesTheNextBlobAlone(t *testing.T) {
	b := newWorkbench(t)
	b.begin()
	first, next := newImage(noise(1, 1024)), newImage(noise(2, 1024))
	for _, content := range [][]byte{first.content[:10], append(noise(1, 1024), noise(3, 4096)...)} {
		if err := b.writer.PutBlob(t.Context(), "a", first.layer, bytes.NewReader(content)); err == nil {
			t.Errorf("%d bytes are taken", len(content))
		}
		b.put("a", "v1", next)
	}
	b.commit()
	if err := verify(b.open().Repository("a", "a"), next.layer.Digest); err != nil {
		t.Error(err)
	}
}

// hasPartial reports whether a chunk has been begun.
func hasPartial(b *workbench) bool {
	info, err := os.Stat(filepath.Join(b.dir, ".mirror_000001.partial"))
	return err == nil && info.Size() >= 1024+512+3000
}

type waiting struct {
	on  chan struct{}
	err error
}

func (w *waiting) Read([]byte) (int, error) {
	<-w.on
	return 0, w.err
}

func TestWriter_carriesTheDocumentsOfAnImport(t *testing.T) {
	b := newWorkbench(t)
	for _, name := range []string{
		"hold-release/cincinnati-graph-data/amd64-stable-4.18.json", "signatures/4.18.2-x86_64-sha256-abc", "helm/charts/a-1.0.0.tgz", "operator-catalogs/a/b/filtered-catalogs/c/digest",
		"isc_pinned_2026-11-20T22:58:31Z.yaml", "disc_pinned_2026-11-20T22:58:31Z.yaml",
		"logs/report.json", "cluster-resources/idms-oc-mirror.yaml", "dry-run/mapping.txt", "helm/index.yaml.XYZ.tmp", "other",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(b.dir, "working-dir", name)), 0o755))
		must(t, os.WriteFile(filepath.Join(b.dir, "working-dir", name), []byte(name), 0o644))
	}
	must(t, os.Symlink("/etc/passwd", filepath.Join(b.dir, "working-dir/signatures/link")))
	b.begin()
	b.put("a", "v1", newImage([]byte("layer")))
	b.commit()
	got := names(b.all(), "working-dir/")
	if len(got) != 7 || len(names(b.all(), "working-dir/logs"))+len(names(b.all(), ".tmp"))+len(names(b.all(), "working-dir/other")) > 0 {
		t.Errorf("the documents are %v", got)
	}
	data, err := b.open().Read("signatures/4.18.2-x86_64-sha256-abc")
	if err != nil || string(data) != "signatures/4.18.2-x86_64-sha256-abc" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestWriter_Commit_contextThatEnds(t *testing.T) {
	b := newWorkbench(t)
	b.begin()
	b.put("a", "v1", newImage([]byte("layer")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.writer.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(b.chunks()) > 0 {
		t.Errorf("the chunks are %v", b.chunks())
	}
	b.commit() // may be called again
	b.open()
}
