//go:build ocmirror

package olmcheck

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// The history of a mirror of version 1 goes on by turns with oc-mirror v1, which must be on PATH, and with the
// appliance, whichever begins: each counts on, mirrors what is new, and deletes what is no longer asked for.
func TestOCMirrorV1_goesOn(t *testing.T) {
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.from+sample.GraphPath)
	for _, storage := range []string{"local", "registry"} {
		for n, turns := range []string{"ours theirs ours theirs", "theirs ours theirs ours"} {
			t.Run(storage+" "+turns, func(t *testing.T) {
				h := &history{site: s, dir: t.TempDir(), below: fmt.Sprint("past/", storage, n), seen: map[string]bool{}}
				if storage == "local" {
					h.storage = fmt.Sprintf("{local: {path: %q}}", filepath.Join(h.dir, "history"))
				} else {
					h.storage = fmt.Sprintf("{registry: {imageURL: %q}}", s.registry+"/"+h.below+"/meta:latest")
				}
				for n, turn := range strings.Fields(turns) {
					h.turn(t, n, turn == "ours")
				}
			})
		}
	}
}

// history is a mirror of version 1, whose image set changes.
type history struct {
	*site
	dir, below, storage string
	uid                 string
	seen                map[string]bool
}

// turn mirrors the nth image set, and compares what is there with what that asks for.
func (h *history) turn(t *testing.T, n int, ours bool) {
	t.Helper()
	images := [][]string{{"docker", "oci"}, {"docker", "docker-multi"}, {"docker", "oci"}, {"docker-multi", "oci"}}[n]
	releases := [][]string{{"4.18.1", "4.18.2", "4.18.3"}, {"4.18.3"}, {"4.18.3"}, {"4.18.3"}}[n]
	between := fmt.Sprintf(", minVersion: %s, maxVersion: %s", releases[0], releases[len(releases)-1])
	if n%2 == 1 {
		between = "" // its head
	}
	text := fmt.Sprintf("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v1alpha2\nstorageConfig: %s\nmirror:\n"+
		"  platform: {architectures: [amd64], channels: [{name: stable-4.18%s}]}\n"+
		"  operators: [{catalog: %q, packages: [{name: sample-database, channels: [{name: stable}]}]}]\n  additionalImages:\n", h.storage, between, h.from+"/"+catalogName)
	for _, image := range images {
		text += "  - {name: '" + h.from + "/samples/" + image + ":v1'}\n"
	}
	set := write(t, filepath.Join(h.dir, "set.yaml"), text)
	to := "docker://" + h.registry + "/" + h.below
	if ours {
		h.mirror(t, "--v1", "-c", set, to, "--workspace", "file://"+filepath.Join(h.dir, "workspace"))
	} else {
		out := h.runOCMirror(t, filepath.Join(h.dir, "home"), append(flagsV1(), "-c", set, to)...)
		for line := range strings.Lines(out) {
			if lower := strings.ToLower(line); strings.Contains(lower, "error") && !strings.Contains(lower, "error image list []") {
				t.Errorf("turn %d: oc-mirror prints %s", n+1, line)
			}
		}
	}
	var got, payloads []string
	for at := range h.images(t, h.below+"/") {
		if name, ok := strings.CutPrefix(at, "samples/"); ok {
			got = append(got, strings.TrimSuffix(name, ":v1"))
		}
		if version, ok := strings.CutPrefix(at, "openshift/release-images:4"); ok {
			payloads = append(payloads, "4"+strings.TrimSuffix(version, "-x86_64"))
		}
	}
	slices.Sort(payloads)
	if slices.Sort(got); !slices.Equal(got, images) || !slices.Equal(payloads, releases) {
		t.Errorf("turn %d: there are %v of %v, and the image set asks for %v of %v", n+1, got, payloads, images, releases)
	}
	h.remembered(t, n+1)
}

// remembered checks the metadata at the destination, and that of the source is the same.
func (h *history) remembered(t *testing.T, sequence int) {
	t.Helper()
	var m struct {
		UID        string
		PastMirror struct {
			Sequence  int
			Platforms []struct{ MinVersion string }
			Operators []struct {
				Packages []struct {
					Channels []struct{ Name, MinVersion string }
				}
			}
		}
		PastAssociations []struct{ Name, Path, TagSymlink, Type string }
	}
	var text []byte
	if h.uid != "" {
		text = h.metadata(t, h.below+"/oc-mirror:"+h.uid)
	} else {
		for at := range h.images(t, h.below+"/") {
			if strings.HasPrefix(at, "oc-mirror:") {
				text = h.metadata(t, h.below+"/"+at)
			}
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	h.uid = m.UID
	source, err := os.ReadFile(filepath.Join(h.dir, "history", "publish", ".metadata.json"))
	if strings.Contains(h.storage, "imageURL") {
		source, err = h.metadata(t, h.below+"/meta:latest"), nil
	}
	// Version 1 leaves the end of a longer file.
	if err != nil || !strings.HasPrefix(string(source), strings.TrimSpace(string(text))) {
		t.Errorf("sequence %d: the source remembers\n%s\nand the destination\n%s, %v", sequence, source, text, err)
	}
	if m.PastMirror.Sequence != sequence || len(m.PastAssociations) < 5 {
		t.Errorf("the metadata of sequence %d is %s", sequence, text)
	}
}

// metadata returns the metadata in an image.
func (h *history) metadata(t *testing.T, image string) []byte {
	t.Helper()
	layers, err := h.pull(t, h.registry+"/"+image).Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%s has layers %v, %v", image, layers, err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if err != nil {
			t.Fatalf("%s has no metadata: %v", image, err)
		}
		if strings.HasSuffix(header.Name, "publish/.metadata.json") {
			text := make([]byte, header.Size)
			if _, err := io.ReadFull(r, text); err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
}
