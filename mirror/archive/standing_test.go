package archive_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/archive"
)

const twoImages = "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/oci-multi:v1\n"

// heard returns options whose writer tells its words to the caller.
func heard(words *[]string) func(*archive.Options) {
	return func(o *archive.Options) {
		o.Say = func(format string, args ...any) { *words = append(*words, fmt.Sprintf(format, args...)) }
	}
}

// sole returns the one archive in the directory.
func (g *gap) sole() archive.Described {
	g.Helper()
	d, err := archive.Describe(g.Context(), g.dir)
	must(g.T, err)
	if len(d.Archives) != 1 || len(d.Problems) > 0 {
		g.Fatalf("%+v", d)
	}
	return d.Archives[0]
}

// The hint of a run with failures is to run the same command again: the archive of that has what the
// one has that it replaces, and nothing is fetched twice.
func TestArchive_toDiskAfterFailures(t *testing.T) {
	for name, small := range map[string]bool{"one file": false, "several files": true} {
		t.Run(name, func(t *testing.T) {
			g := newGap(t)
			var words []string
			options := []func(*archive.Options){heard(&words), func(o *archive.Options) {
				if small {
					o.ChunkSize = 1 << 20
				}
			}}
			g.lost.Store("samples/oci-multi/blobs")
			if report, err := g.toDisk(twoImages, options...); err == nil || len(report.Failures) != 1 {
				t.Fatalf("%+v, %v", report, err)
			}
			if !strings.Contains(fmt.Sprint(words), "the same command again makes it with them") {
				t.Errorf("it says %q", words)
			}
			first := g.sole()
			g.lost.Store("samples/docker/blobs")
			report, err := g.toDisk(twoImages, append(options, func(o *archive.Options) { o.DryRun = true })...)
			if report != nil || err == nil { // a dry run writes nothing
				t.Errorf("%+v, %v", report, err)
			}
			if again := g.sole(); again.Archive != first.Archive || len(g.leftovers()) > 1 {
				t.Errorf("a dry run leaves %v", g.leftovers())
			}
			_, err = g.toDisk(twoImages, options...)
			must(t, err)
			second := g.sole()
			if second.Sequence != 1 || second.BuildsOn != nil || second.Archive == first.Archive {
				t.Errorf("archive number %d builds on %+v", second.Sequence, second.BuildsOn)
			}
			_, err = g.fromDisk(twoImages, g.dir)
			must(t, err)
			g.serves("samples/docker", "v1", "samples/docker", "v1")
			g.serves("samples/oci-multi", "v1", "samples/oci-multi", "v1")

			g.lost.Store("none")
			more := twoImages + "  - name: HOST/samples/oci:v1\n"
			one := g.moved()
			_, err = g.toDisk(more, options...)
			must(t, err)
			if third := g.sole(); third.Sequence != 2 || third.BuildsOn == nil || third.BuildsOn.Archive != second.Archive {
				t.Errorf("archive number %d builds on %+v", third.Sequence, third.BuildsOn)
			}
			_, err = g.fromDisk(more, one, g.dir)
			must(t, err)
		})
	}
}

// An archive with failures that is carried as it is, is what the next one builds on.
func TestArchive_toDiskAfterFailuresThatWereCarried(t *testing.T) {
	g := newGap(t)
	g.lost.Store("samples/oci-multi/blobs")
	_, err := g.toDisk(twoImages)
	if err == nil {
		t.Fatal("nothing failed")
	}
	one := g.moved()
	_, _ = g.fromDisk(twoImages, one)
	g.lost.Store("none")
	_, err = g.toDisk(twoImages)
	must(t, err)
	if second := g.sole(); second.Sequence != 2 {
		t.Errorf("it has number %d", second.Sequence)
	}
	_, err = g.fromDisk(twoImages, g.dir)
	must(t, err)
}

// An image that has arrived once is not lost since it cannot be read any more.
func TestArchive_toDiskAfterOtherFailures(t *testing.T) {
	g := newGap(t)
	g.lost.Store("samples/oci-multi/")
	_, err := g.toDisk(twoImages)
	if err == nil {
		t.Fatal("nothing failed")
	}
	first := g.sole()
	g.lost.Store("samples/docker/")
	_, err = g.toDisk(twoImages)
	if err == nil || !strings.Contains(err.Error(), "/samples/docker:v1, which failed now") || !strings.Contains(hint.Of(err), "run the same command again") {
		t.Errorf("error %v", err)
	}
	if again := g.sole(); again.Archive != first.Archive {
		t.Error("the archive was replaced")
	}
	g.lost.Store("none")
	_, err = g.toDisk(twoImages)
	must(t, err)
	_, err = g.fromDisk(twoImages, g.dir)
	must(t, err)
}

// A second run in which nothing is new leaves the archive that is there, and one with something new
// is announced before it takes its place.
func TestArchive_toDiskTwice(t *testing.T) {
	g := newGap(t)
	both := twoImages + strings.ReplaceAll(operators, "additionalImages:", "")
	var words []string
	_, err := g.toDisk(both, heard(&words))
	must(t, err)
	if len(words) > 0 {
		t.Errorf("of the first it says %q", words)
	}
	first := g.sole()
	_, err = g.toDisk(both, heard(&words))
	must(t, err)
	if again := g.sole(); again.Archive != first.Archive || len(g.leftovers()) > 1 {
		t.Errorf("the archive was replaced, and there are %v", g.leftovers())
	}
	if !strings.Contains(fmt.Sprint(words), "nothing is new since archive number 1 of ") {
		t.Errorf("it says %q", words)
	}
	words = nil
	_, err = g.toDisk(both, heard(&words), func(o *archive.Options) { o.ImageSet = []byte("kind: other\n") })
	must(t, err)
	if third := g.sole(); third.Sequence != 2 {
		t.Errorf("another image set, and number %d", third.Sequence)
	}
	if len(words) != 2 || !strings.Contains(words[0], "leaves out what it has: have it carried before this run ends") || !strings.Contains(words[1], "number 2: the other side needs number 1 before it") {
		t.Errorf("it says %q", words)
	}
}

// A killed run that took over an archive with failures is continued, and the archive stays until then.
func TestArchive_toDiskKilledAfterFailures(t *testing.T) {
	g := newGap(t)
	g.lost.Store("samples/oci-multi/blobs")
	_, err := g.toDisk(twoImages)
	if err == nil {
		t.Fatal("nothing failed")
	}
	first := g.sole()
	g.begin() // a copy is made, and that is all
	g.close()
	if again := g.sole(); again.Archive != first.Archive {
		t.Error("the archive was replaced")
	}
	if _, err := os.Stat(filepath.Join(g.dir, partial)); errors.Is(err, os.ErrNotExist) {
		t.Error("nothing was taken over")
	}
	g.lost.Store("samples/docker/blobs")
	_, err = g.toDisk(twoImages)
	must(t, err)
	_, err = g.fromDisk(twoImages, g.dir)
	must(t, err)
}
