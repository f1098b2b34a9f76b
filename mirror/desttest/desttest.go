// Package desttest checks that a destination does what mirror.Destination says.
//
// Use Run from a test of each implementation, over the real thing: a store in a
// temporary directory, a registry that listens. What holds for one implementation only
// stays in its own tests.
package desttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror"
)

// Place is an empty destination.
type Place struct {
	// Begin begins a run.
	Begin func(ctx context.Context) (mirror.Destination, error)
	// Manifest returns what a client reads under a tag or a digest, and an error with
	// fs.ErrNotExist for what is not there.
	Manifest func(ctx context.Context, repo, ref string) ([]byte, error)
}

// Run checks the destinations that open returns, a new one for each property.
func Run(t *testing.T, open func(t *testing.T) Place) {
	for name, check := range map[string]func(*suite){
		"tags become visible with Commit":                           visible,
		"what is put exists, where it was put":                      existing,
		"an index is served with its children":                      index,
		"a tag moves":                                               moves,
		"Tag and Commit may be called again":                        again,
		"an aborted run shows no tag":                               aborted,
		"a run that did not end serves the next":                    resumed,
		"a blob of another repository is confirmed, or put":         confirmed,
		"a blob is read to its end":                                 readToEnd,
		"other bytes than the digest says are refused":              refused,
		"the source's error comes through, and leaves nothing":      broken,
		"a blob that broke off is put, by another run too":          continued,
		"a put ends when its context does":                          cancelled,
		"methods are called concurrently":                           concurrent,
		"nothing is an answer to nothing, and an empty run commits": empty,
	} {
		t.Run(name, func(t *testing.T) {
			s := &suite{T: t, place: open(t)}
			s.begin()
			check(s)
		})
	}
}

// suite is one place and an open run there.
type suite struct {
	*testing.T
	place Place
	run   mirror.Destination
}

func (s *suite) begin() {
	s.Helper()
	run, err := s.place.Begin(s.Context())
	s.must(err)
	s.run = run
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// blob returns a blob's content and its descriptor.
func blob(text string) ([]byte, ocispec.Descriptor) {
	data := []byte(text)
	return data, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func (s *suite) putBlob(repo, text string) ocispec.Descriptor {
	s.Helper()
	data, desc := blob(text)
	s.must(s.run.PutBlob(s.Context(), repo, desc, bytes.NewReader(data)))
	return desc
}

// putImage stages an image of one layer.
func (s *suite) putImage(repo, text string) (ocispec.Descriptor, []byte) {
	s.Helper()
	config, layer := s.putBlob(repo, "{}"), s.putBlob(repo, text)
	config.MediaType = ocispec.MediaTypeImageConfig
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, config.MediaType, config.Digest, config.Size,
		layer.MediaType, layer.Digest, layer.Size)
	return s.putManifest(repo, ocispec.MediaTypeImageManifest, body), body
}

func (s *suite) putManifest(repo, mediaType string, body []byte) ocispec.Descriptor {
	s.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	s.must(s.run.PutManifest(s.Context(), repo, desc, body))
	return desc
}

func (s *suite) tag(repo, tag string, d digest.Digest) {
	s.Helper()
	s.must(s.run.Tag(s.Context(), map[string]map[string]digest.Digest{repo: {tag: d}}))
}

func (s *suite) commit() {
	s.Helper()
	s.must(s.run.Commit(s.Context()))
}

// shows checks what a client reads; no body is that it reads nothing.
func (s *suite) shows(repo, ref string, body []byte) {
	s.Helper()
	got, err := s.place.Manifest(s.Context(), repo, ref)
	switch {
	case body == nil && !errors.Is(err, fs.ErrNotExist):
		s.Errorf("%s:%s is %q, %v; want that it is not there", repo, ref, got, err)
	case body != nil && (err != nil || string(got) != string(body)):
		s.Errorf("%s:%s is %q, %v; want %q", repo, ref, got, err, body)
	}
}

func only(repo string, d digest.Digest) map[string][]digest.Digest {
	return map[string][]digest.Digest{repo: {d}}
}

// hasBlob returns whether a blob exists, and whether only other repositories have it.
func (s *suite) hasBlob(repo string, d digest.Digest) (exists, unconfirmed bool) {
	s.Helper()
	blobs, _, others, err := s.run.Existing(s.Context(), only(repo, d), nil)
	s.must(err)
	return len(blobs[repo]) == 1, len(others[repo]) == 1
}

func (s *suite) hasManifest(repo string, d digest.Digest) bool {
	s.Helper()
	_, manifests, _, err := s.run.Existing(s.Context(), nil, only(repo, d))
	s.must(err)
	return len(manifests[repo]) == 1
}

func visible(s *suite) {
	desc, body := s.putImage("a/b", "layer")
	s.tag("a/b", "v1", desc.Digest)
	s.shows("a/b", "v1", nil)
	s.commit()
	s.shows("a/b", "v1", body)
	s.shows("a/b", desc.Digest.String(), body)
}

func existing(s *suite) {
	_, absent := blob("layer")
	if exists, unconfirmed := s.hasBlob("a", absent.Digest); exists || unconfirmed {
		s.Errorf("before: exists %v, unconfirmed %v", exists, unconfirmed)
	}
	desc, _ := s.putImage("a", "layer")
	if exists, _ := s.hasBlob("a", absent.Digest); !exists || !s.hasManifest("a", desc.Digest) {
		s.Error("what was put does not exist")
	}
	if s.hasManifest("b", desc.Digest) {
		s.Error("a repository has the manifest of another")
	}
	_, none := blob("none")
	blobs, manifests, _, err := s.run.Existing(s.Context(),
		map[string][]digest.Digest{"a": {none.Digest, absent.Digest}},
		map[string][]digest.Digest{"a": {none.Digest, desc.Digest}})
	if err != nil || len(blobs["a"]) != 1 || blobs["a"][0] != absent.Digest ||
		len(manifests["a"]) != 1 || manifests["a"][0] != desc.Digest {
		s.Errorf("existing are blobs %v and manifests %v, %v", blobs, manifests, err)
	}
}

func index(s *suite) {
	child, body := s.putImage("a", "layer")
	list := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, child.MediaType, child.Digest, child.Size)
	root := s.putManifest("a", ocispec.MediaTypeImageIndex, list)
	s.tag("a", "v1", root.Digest)
	s.commit()
	s.shows("a", "v1", list)
	s.shows("a", child.Digest.String(), body)
}

func moves(s *suite) {
	for _, text := range []string{"old", "new"} {
		desc, body := s.putImage("a", text)
		s.tag("a", "v1", desc.Digest)
		s.commit()
		s.shows("a", "v1", body)
		s.begin()
	}
}

func again(s *suite) {
	desc, body := s.putImage("a", "layer")
	s.tag("a", "v1", desc.Digest)
	s.tag("a", "v1", desc.Digest)
	s.commit()
	s.commit()
	s.shows("a", "v1", body)
}

func aborted(s *suite) {
	desc, body := s.putImage("a", "layer")
	s.tag("a", "v1", desc.Digest)
	s.must(s.run.Abort(s.Context()))
	s.shows("a", "v1", nil)
	s.begin()
	s.putImage("a", "layer")
	s.tag("a", "v1", desc.Digest)
	s.commit()
	s.shows("a", "v1", body)
}

func resumed(s *suite) {
	desc := s.putBlob("a", "layer")
	s.begin()
	if exists, unconfirmed := s.hasBlob("a", desc.Digest); !exists && !unconfirmed {
		s.Error("the next run does not find it")
	}
}

func confirmed(s *suite) {
	desc := s.putBlob("one", "layer")
	exists, unconfirmed := s.hasBlob("two", desc.Digest)
	if unconfirmed {
		staged, err := s.run.Confirm(s.Context(), map[string][]ocispec.Descriptor{"two": {desc}})
		s.must(err)
		exists = len(staged["two"]) == 1
	}
	if !exists {
		s.putBlob("two", "layer")
	}
	if exists, _ := s.hasBlob("two", desc.Digest); !exists {
		s.Error("it does not exist")
	}
}

func readToEnd(s *suite) {
	data, desc := blob("layer")
	r := &ending{Reader: bytes.NewReader(data)}
	s.must(s.run.PutBlob(s.Context(), "a", desc, r))
	if !r.ended {
		s.Error("its end, where a source verifies it, was not read")
	}
}

// ending notes that it was read to its end.
type ending struct {
	io.Reader
	ended bool
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || errors.Is(err, io.EOF)
	return n, err
}

func refused(s *suite) {
	_, desc := blob("the right one")
	for name, content := range map[string]string{"others": "the wrong one", "too few": "the right",
		"too many": "the right one and more"} {
		err := s.run.PutBlob(s.Context(), "a", desc, strings.NewReader(content))
		var other interface{ Mismatch() bool }
		if err == nil || name == "others" && !(errors.As(err, &other) && other.Mismatch()) {
			s.Errorf("%s: %v", name, err)
		}
		if exists, _ := s.hasBlob("a", desc.Digest); exists {
			s.Errorf("%s exist", name)
		}
	}
}

func broken(s *suite) {
	data, desc := blob("some layer")
	dead := errors.New("the line is dead")
	err := s.run.PutBlob(s.Context(), "a", desc, io.MultiReader(bytes.NewReader(data[:4]), failing{dead}))
	if !errors.Is(err, dead) {
		s.Errorf("error %v, want the source's", err)
	}
	if exists, _ := s.hasBlob("a", desc.Digest); exists {
		s.Error("half of it exists")
	}
	s.putBlob("a", "some layer")
}

// continued puts a blob of which the first half came, once its own and once other bytes.
func continued(s *suite) {
	for _, other := range []byte{0, 1} {
		data, desc := blob(strings.Repeat("half of it, or so", 4<<20/16) + string('a'+rune(other)))
		begun := bytes.Clone(data[:len(data)/2])
		begun[10] ^= other
		if err := s.run.PutBlob(s.Context(), "a", desc, io.MultiReader(bytes.NewReader(begun), failing{io.ErrUnexpectedEOF})); err == nil {
			s.Fatal("half of it is taken")
		}
		s.begin()
		if exists, _ := s.hasBlob("a", desc.Digest); exists {
			s.Error("half of it exists")
		}
		err := s.run.PutBlob(s.Context(), "b", desc, bytes.NewReader(data))
		if err != nil && other != 0 {
			err = s.run.PutBlob(s.Context(), "b", desc, bytes.NewReader(data))
		}
		s.must(err)
		if exists, _ := s.hasBlob("b", desc.Digest); !exists {
			s.Error("it does not exist")
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func cancelled(s *suite) {
	ctx, cancel := context.WithCancel(s.Context())
	data, desc := blob("some layer")
	err := s.run.PutBlob(ctx, "a", desc, io.MultiReader(bytes.NewReader(data[:4]), cancelling{ctx, cancel}))
	if !errors.Is(err, context.Canceled) {
		s.Errorf("error %v, want that it was cancelled", err)
	}
}

// cancelling is a source whose context ends while it is read.
type cancelling struct {
	ctx    context.Context
	cancel func()
}

func (c cancelling) Read([]byte) (int, error) {
	c.cancel()
	return 0, c.ctx.Err()
}

func concurrent(s *suite) {
	const images = 8
	var g errgroup.Group
	for i := range images {
		g.Go(func() error {
			repo := fmt.Sprint("repo", i%3)
			data, desc := blob(fmt.Sprint("layer ", i))
			if _, _, _, err := s.run.Existing(s.Context(), only(repo, desc.Digest), nil); err != nil {
				return err
			}
			return s.run.PutBlob(s.Context(), repo, desc, bytes.NewReader(data))
		})
	}
	s.must(g.Wait())
	for i := range images {
		_, desc := blob(fmt.Sprint("layer ", i))
		if exists, _ := s.hasBlob(fmt.Sprint("repo", i%3), desc.Digest); !exists {
			s.Errorf("blob %d does not exist", i)
		}
	}
}

func empty(s *suite) {
	blobs, manifests, unconfirmed, err := s.run.Existing(s.Context(), nil, nil)
	if err != nil || len(blobs)+len(manifests)+len(unconfirmed) != 0 {
		s.Errorf("existing are %v, %v, %v, %v", blobs, manifests, unconfirmed, err)
	}
	s.must(s.run.Tag(s.Context(), nil))
	s.commit()
}
