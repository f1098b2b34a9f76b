package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/archive"
)

const (
	otherImage = "  additionalImages:\n  - name: HOST/samples/oci:v1\n"
	moreImages = twoImages + "  - name: HOST/samples/oci:v1\n"
)

// ofSet returns options of an image set with other text.
func ofSet(name string) func(*archive.Options) {
	return func(o *archive.Options) { o.ImageSet = []byte("kind: " + name + "\n") }
}

// has fails the test unless the archive has these images, and no others.
func (g *gap) has(paths ...string) {
	g.Helper()
	all := g.sole().Images
	for _, p := range paths {
		if !strings.Contains(fmt.Sprint(all), p) {
			g.Errorf("the archive lacks %s: %v", p, all)
		}
	}
	if len(all) != len(paths) {
		g.Errorf("the archive has %v", all)
	}
}

// An archive that is without some images is not carried yet, so that the one of another image set has
// its images too, and the one after that, whether or not something fails again.
func TestArchive_toDiskAfterFailuresOfAnotherImageSet(t *testing.T) {
	g := newGap(t)
	g.lost.Store("samples/oci-multi/blobs")
	if _, err := g.toDisk(twoImages, ofSet("one")); err == nil {
		t.Fatal("nothing failed")
	}
	g.has("samples/docker")
	_, err := g.toDisk(otherImage+"  - name: HOST/samples/none:v1\n", ofSet("two"))
	if err == nil {
		t.Fatal("nothing failed")
	}
	g.has("samples/docker", "samples/oci")
	asked := g.asked.Load()
	var words []string
	_, err = g.toDisk(otherImage, ofSet("two"), heard(&words)) // again, with what it has
	must(t, err)
	g.has("samples/docker", "samples/oci")
	if g.asked.Load() != asked {
		t.Errorf("%d blobs were fetched again", g.asked.Load()-asked)
	}
	if !strings.Contains(fmt.Sprint(words), "this one has its content too") || !strings.Contains(fmt.Sprint(words), "they come along, with 1 tags") {
		t.Errorf("it says %q", words)
	}
	_, err = g.fromDisk("  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/oci:v1\n", g.dir)
	must(t, err)
	g.serves("samples/docker", "v1", "samples/docker", "v1")
	g.serves("samples/oci", "v1", "samples/oci", "v1")
}

// What the same image set does not ask for any more is left out after a failure.
func TestArchive_toDiskAfterFailuresWithFewerImages(t *testing.T) {
	g := newGap(t)
	g.lost.Store("samples/oci-multi/blobs")
	if _, err := g.toDisk(moreImages); err == nil {
		t.Fatal("nothing failed")
	}
	g.has("samples/docker", "samples/oci")
	g.lost.Store("none")
	_, err := g.toDisk(twoImages) // as a catalog moves
	must(t, err)
	g.has("samples/docker", "samples/oci-multi")
}

// A run of another image set is killed after it gave up places, and the one after it has the images of
// the archive that is there all the same.
func TestArchive_toDiskKilledWithOthers(t *testing.T) {
	g := newGap(t)
	g.lost.Store("samples/oci-multi/blobs")
	if _, err := g.toDisk(twoImages, ofSet("one")); err == nil {
		t.Fatal("nothing failed")
	}
	g.begin()
	g.close()
	partials, err := filepath.Glob(filepath.Join(g.dir, ".mirror_*.partial"))
	must(t, err)
	for _, p := range partials {
		must(t, os.Truncate(p, 4096))
	}
	_, err = g.toDisk(otherImage, ofSet("two"))
	must(t, err)
	g.has("samples/docker", "samples/oci")
	_, err = g.fromDisk(twoImages[:strings.LastIndex(twoImages, "  - ")], g.dir)
	must(t, err)
}

// An archive of another image set that is complete is replaced, which is said before.
func TestArchive_toDiskOfAnotherImageSet(t *testing.T) {
	g := newGap(t)
	_, err := g.toDisk(otherImage, ofSet("one"))
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(g.dir, "working-dir"))) // so that nothing is left out
	var words []string
	_, err = g.toDisk(twoImages, ofSet("two"), heard(&words))
	must(t, err)
	if !strings.Contains(fmt.Sprint(words), "is not of this image set: have it carried before this run ends") {
		t.Errorf("it says %q", words)
	}
}

// However often a run fails, its archive has the number of the first, and what the next one builds on
// is the archive that was there last.
func TestArchive_toDiskFailsAgainAndAgain(t *testing.T) {
	g := newGap(t)
	_, err := g.toDisk(otherImage)
	must(t, err)
	g.lost.Store("samples/oci-multi/blobs")
	for range 4 {
		var words []string
		if _, err := g.toDisk(moreImages, heard(&words)); err == nil {
			t.Fatal("nothing failed")
		}
		if now := g.sole(); now.Sequence != 2 || !strings.Contains(fmt.Sprint(words), "number 2: the other side needs number 1 before it") {
			t.Errorf("it has number %d and builds on %+v, and says %q", now.Sequence, now.BuildsOn, words)
		}
	}
	g.lost.Store("none")
	_, err = g.toDisk(moreImages)
	must(t, err)
	whole := g.sole()
	if whole.Sequence != 2 {
		t.Errorf("the whole one has number %d", whole.Sequence)
	}
	_, err = g.toDisk(moreImages, ofSet("three"))
	must(t, err)
	if next := g.sole(); next.Sequence != 3 || next.BuildsOn.Archive != whole.Archive {
		t.Errorf("the next one has number %d and builds on %+v", next.Sequence, next.BuildsOn)
	}
}

// Two image sets select from one catalog: the archive of the second has the images of the first, whose
// import selects its operators once more.
func TestArchive_toDiskAfterFailuresOfAnotherSelection(t *testing.T) {
	g := newGap(t)
	selecting := func(name string) string {
		return "  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: " + name + "}]}]\n"
	}
	g.lost.Store("samples/oci-multi/blobs")
	if _, err := g.toDisk(twoImages+selecting("sample-database"), ofSet("one")); err == nil {
		t.Fatal("nothing failed")
	}
	_, err := g.toDisk(selecting("sample-logging"), ofSet("two"))
	must(t, err)
	for _, name := range []string{"sample-logging", "sample-database"} {
		report, err := g.fromDisk(selecting(name), g.dir)
		if err != nil {
			t.Errorf("%s: %v, %+v", name, err, report.Failures)
		}
	}
}
