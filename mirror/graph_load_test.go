package mirror_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/layers"
)

// TestLoadGraphData_partWithoutEffect refuses an archive with a blocked update that cannot be read, unless it is
// forced; one without a channel in any case.
func TestLoadGraphData_partWithoutEffect(t *testing.T) {
	for name, c := range map[string]struct {
		channel, block, refused string
		force                   bool
	}{
		"a whole one":           {"[4.18.1]", "to: 4.18.1\nfrom: .*\n", "", false},
		"a broken pattern":      {"[4.18.1]", "to: 4.18.1\nfrom: ((\n", "blocked-edges/a.yaml", false},
		"the same, forced":      {"[4.18.1]", "to: 4.18.1\nfrom: ((\n", "", true},
		"no channel, forced":    {"[one]", "to: 4.18.1\nfrom: .*\n", "no channel in it can be used", true},
		"two documents in one":  {"[4.18.1]", "to: 4.18.1\nfrom: .*\n---\nto: 4.18.2\nfrom: .*\n", "blocked-edges/a.yaml", false},
		"a channel not of text": {"4", "to: 4.18.1\nfrom: .*\n", "channels/s.yaml", false},
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := mirror.LoadGraphData(t.Context(), graphArchive(t, "version", "1.1.0", "raw/metadata.json", "{}",
				"channels/s.yaml", "name: s\nversions: "+c.channel+"\n", "blocked-edges/a.yaml", c.block), c.force, nil)
			switch {
			case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("it is taken: %+v, %v", loaded, err)
			case c.refused == "" && (err != nil || len(loaded.Problems) > 0 != c.force):
				t.Errorf("it is refused: %+v, %v", loaded, err)
			}
		})
	}
}

// graphArchive makes an archive of names and texts in turn.
func graphArchive(t *testing.T, files ...string) []byte {
	t.Helper()
	var all []layers.NewFile
	for i := 0; i < len(files); i += 2 {
		text := files[i+1]
		all = append(all, layers.NewFile{Name: files[i], Size: int64(len(text)), Write: func(w io.Writer) error { _, err := io.WriteString(w, text); return err }})
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(layers.Write(z, all), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
