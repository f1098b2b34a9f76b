package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

const imageReferences = `{"kind":"ImageStream","metadata":{"name":"4.1.0"},"spec":{"tags":[
{"name":"etcd","from":{"kind":"DockerImage","name":"q.io/c@sha256:a"}},{"name":"pod","from":{"kind":"DockerImage","name":"q.io/c@sha256:b"}}]}}`

// entry is a file of a layer; one with kind 0 is a regular file.
type entry struct {
	name, text string
	kind       byte
}

func layer(t *testing.T, zip bool, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = nopCloser{&out}
	if zip {
		w = gzip.NewWriter(&out)
	}
	tw := tar.NewWriter(w)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.text)), Typeflag: e.kind, Format: tar.FormatPAX}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		} else {
			h.Linkname = "elsewhere"
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, e.text)
	}
	if err := errors.Join(tw.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Spec: oc-mirror 4.7.
func TestReadLayer(t *testing.T) {
	const file = "release-manifests/image-references"
	for _, tc := range []struct {
		name    string
		zip     bool
		entries []entry
		want    error
	}{
		{"gzipped", true, []entry{{"etc/x", "x", 0}, {file, imageReferences, 0}, {"z", "z", 0}}, nil},
		{"plain", false, []entry{{file, imageReferences, 0}}, nil},
		{"with a leading dot", true, []entry{{"./" + file, imageReferences, 0}}, nil},
		{"with a leading slash", true, []entry{{"/" + file, imageReferences, 0}}, nil},
		{"without it", true, []entry{{"etc/x", "x", 0}}, errNoReferences},
		{"empty", true, nil, errNoReferences},
		{"removed", true, []entry{{"release-manifests/.wh.image-references", "", 0}}, errWhiteout},
		{"its directory removed", true, []entry{{".wh.release-manifests", "", 0}}, errWhiteout},
		{"its directory emptied", true, []entry{{"release-manifests/.wh..wh..opq", "", 0}}, errWhiteout},
		{"everything below removed", true, []entry{{".wh..wh..opq", "", 0}}, errWhiteout},
		{"emptied and brought anew", true, []entry{{"release-manifests/.wh..wh..opq", "", 0}, {file, imageReferences, 0}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source := &ended{Reader: bytes.NewReader(layer(t, tc.zip, tc.entries...))}
			refs, err := readLayer(source)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if !source.done {
				t.Error("the layer was not read to its end, where its digest is verified")
			}
			if tc.want == nil && (fmt.Sprint(refs.components) != "[{etcd q.io/c@sha256:a} {pod q.io/c@sha256:b}]" || string(refs.files["image-references"]) != imageReferences) {
				t.Errorf("references %+v", refs)
			}
		})
	}
	t.Run("a link is refused", func(t *testing.T) {
		_, err := readLayer(bytes.NewReader(layer(t, true, entry{file, "", tar.TypeSymlink})))
		if err == nil || errors.Is(err, errNoReferences) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a layer that breaks off", func(t *testing.T) {
		whole := layer(t, true, entry{"big", strings.Repeat("x", 1<<16), 0}, entry{file, imageReferences, 0})
		if _, err := readLayer(bytes.NewReader(whole[:len(whole)/2])); err == nil || errors.Is(err, errNoReferences) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what the reader says at its end counts", func(t *testing.T) {
		lie := errors.New("other bytes than the digest says")
		whole := io.MultiReader(bytes.NewReader(layer(t, true, entry{file, imageReferences, 0})), bytes.NewReader(make([]byte, 1<<16)), &failing{lie})
		if _, err := readLayer(whole); !errors.Is(err, lie) {
			t.Errorf("error %v", err)
		}
	})
}

// ended notes that it was read to its end.
type ended struct {
	io.Reader
	done bool
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.done = e.done || errors.Is(err, io.EOF)
	return n, err
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestParseReferences_refusesNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":            `x`,
		"another kind":       `{"kind":"List"}`,
		"no component":       `{"kind":"ImageStream","spec":{"tags":[]}}`,
		"a nameless one":     `{"kind":"ImageStream","spec":{"tags":[{"from":{"kind":"DockerImage","name":"x"}}]}}`,
		"one without image":  `{"kind":"ImageStream","spec":{"tags":[{"name":"x","from":{"kind":"DockerImage"}}]}}`,
		"one that is a name": `{"kind":"ImageStream","spec":{"tags":[{"name":"x","from":{"kind":"ImageStreamTag","name":"y"}}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if refs, err := parseReferences([]byte(text)); err == nil {
				t.Errorf("gives %+v", refs)
			}
		})
	}
}
