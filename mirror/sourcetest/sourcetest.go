// Package sourcetest checks that a source does what mirror.Source says.
//
// Use Run from a test of each implementation, over the real thing: a registry that listens, files
// in a temporary directory. What holds for one implementation only, such as how often a registry is
// asked again, stays in its own tests.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror"
)

// Content is what the source has.
type Content struct {
	MediaType string // of all manifests
	Tags      map[string]digest.Digest
	// Manifests and Blobs are the bytes under each digest, which may be damaged.
	Manifests, Blobs map[digest.Digest][]byte
	// Breaks is a blob that breaks off half way when it is read for the first time, if the source
	// is behind a connection.
	Breaks digest.Digest
}

// Run checks the source that open returns, one repository with a content.
func Run(t *testing.T, open func(t *testing.T, c Content) mirror.Source) {
	c := Content{
		MediaType: ocispec.MediaTypeImageManifest, Tags: map[string]digest.Digest{},
		Manifests: map[digest.Digest][]byte{}, Blobs: map[digest.Digest][]byte{},
	}
	whole := random(8 << 20) // more than buffers on the way take
	c.Breaks = digest.FromBytes(whole)
	c.Blobs[c.Breaks] = whole
	body := manifest(c.Breaks, len(whole))
	good := digest.FromBytes(body)
	c.Tags["v1"], c.Manifests[good] = good, body
	referrer := referrerOf(good, len(body))
	list := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, c.MediaType, digest.FromBytes(referrer), len(referrer))
	c.Manifests[digest.FromBytes(referrer)], c.Manifests[digest.FromBytes(list)] = referrer, list
	c.Tags["sha256-"+good.Encoded()] = digest.FromBytes(list) // as registries without the referrers API have it
	s := &suite{whole: c.Breaks, referrer: digest.FromBytes(referrer), damaged: map[string]digest.Digest{}}
	s.manifest, s.body, s.content = good, body, whole
	for name, change := range map[string]func([]byte) []byte{
		"other bytes":  func(b []byte) []byte { b[0] ^= 1; return b },
		"a byte less":  func(b []byte) []byte { return b[:len(b)-1] },
		"a byte more":  func(b []byte) []byte { return append(b, 0) },
		"nothing":      func([]byte) []byte { return nil },
		"half of it":   func(b []byte) []byte { return b[:len(b)/2] },
		"another blob": func([]byte) []byte { return bytes.Clone(whole[:100]) },
	} {
		data := random(1 << 20)
		s.damaged[name] = digest.FromBytes(data)
		c.Blobs[s.damaged[name]] = change(bytes.Clone(data))
	}
	s.forged = digest.FromString("another manifest")
	c.Manifests[s.forged] = body
	s.source = open(t, c)
	t.Run("a manifest, by tag and by digest", s.manifests)
	t.Run("a manifest with another digest is an error", s.forgedManifest)
	t.Run("a blob, although its reading breaks", s.blob)
	t.Run("the rest of a blob", s.rest)
	t.Run("the referrers of a manifest", s.referrers)
	t.Run("what is not there does not exist", s.absent)
	t.Run("a damaged blob ends with an error", s.damage)
	t.Run("a context that ends", s.cancelled)
	t.Run("a blob that is closed early", s.closed)
	t.Run("concurrent use", s.concurrent)
}

type suite struct {
	source          mirror.Source
	manifest, whole digest.Digest
	body, content   []byte
	damaged         map[string]digest.Digest
	forged          digest.Digest // a manifest under another's digest
	referrer        digest.Digest // the manifest whose subject is manifest
}

func random(n int) []byte {
	data := make([]byte, n)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	_, _ = rand.NewChaCha8(seed).Read(data)
	return data
}

func manifest(layer digest.Digest, size int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, digest.FromString("{}"),
		ocispec.MediaTypeImageLayer, layer, size)
}

// referrerOf returns a manifest whose subject is another.
func referrerOf(subject digest.Digest, size int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x","config":{"mediaType":%q,"digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeEmptyJSON, digest.FromString("{}"),
		ocispec.MediaTypeImageManifest, subject, size)
}

func (s *suite) referrers(t *testing.T) {
	list, err := s.source.Referrers(t.Context(), s.manifest)
	if err != nil || len(list) != 1 || list[0].Digest != s.referrer {
		t.Errorf("got %v, %v", list, err)
	}
	if list, err := s.source.Referrers(t.Context(), digest.FromString("none")); err != nil || len(list) != 0 {
		t.Errorf("of a manifest that does not exist: %v, %v", list, err)
	}
}

func (s *suite) manifests(t *testing.T) {
	for _, ref := range []string{"v1", s.manifest.String()} {
		desc, body, err := s.source.Manifest(t.Context(), ref)
		if err != nil || !bytes.Equal(body, s.body) {
			t.Fatalf("%s: %q, %v", ref, body, err)
		}
		if desc.Digest != s.manifest || desc.Size != int64(len(body)) ||
			desc.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%s: descriptor %+v", ref, desc)
		}
	}
}

func (s *suite) forgedManifest(t *testing.T) {
	if _, body, err := s.source.Manifest(t.Context(), s.forged.String()); err == nil {
		t.Errorf("read %q", body)
	}
}

func (s *suite) blob(t *testing.T) {
	body, size, err := s.source.Blob(t.Context(), s.whole)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if size >= 0 && size != int64(len(s.content)) {
		t.Errorf("the size is %d, want %d", size, len(s.content))
	}
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, s.content) {
		t.Errorf("read %d of %d bytes, %v", len(got), len(s.content), err)
	}
	size, err = s.source.Stat(t.Context(), s.whole)
	if err != nil || size >= 0 && size != int64(len(s.content)) {
		t.Errorf("Stat says %d, %v; want %d", size, err, len(s.content))
	}
}

func (s *suite) rest(t *testing.T) {
	for _, offset := range []int64{0, 1, int64(len(s.content)) / 2, int64(len(s.content)) - 1} {
		body, size, err := s.source.BlobFrom(t.Context(), s.whole, offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, s.content[offset:]) || size >= 0 && size != int64(len(s.content)) {
			t.Errorf("from byte %d: read %d bytes, %v; the size is %d", offset, len(got), err, size)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	if body, _, err := s.source.BlobFrom(t.Context(), digest.FromString("none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("blob: %v, %v", body, err)
	}
}

func (s *suite) absent(t *testing.T) {
	none := digest.FromString("none")
	for _, ref := range []string{"none", none.String()} {
		if _, _, err := s.source.Manifest(t.Context(), ref); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("manifest %s: %v", ref, err)
		}
	}
	if body, _, err := s.source.Blob(t.Context(), none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("blob: %v, %v", body, err)
	}
	if _, err := s.source.Stat(t.Context(), none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}

func (s *suite) damage(t *testing.T) {
	for name, d := range s.damaged {
		body, _, err := s.source.Blob(t.Context(), d)
		if err != nil {
			continue // noticed without reading
		}
		got, err := io.ReadAll(body)
		if err == nil {
			t.Errorf("%s: read %d bytes to their end", name, len(got))
		}
		if digest.FromBytes(got) == d {
			t.Errorf("%s: the whole blob came, and then %v", name, err)
		}
		_ = body.Close()
	}
}

func (s *suite) cancelled(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	if _, _, err := s.source.Manifest(ended, "v1"); !errors.Is(err, context.Canceled) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := s.source.Stat(ended, s.whole); !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, _, err := s.source.Blob(ctx, s.whole)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	time.Sleep(50 * time.Millisecond) // a connection is closed by another goroutine
	if n, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Errorf("the reading goes on: %d bytes, %v", n, err)
	}
}

func (s *suite) closed(t *testing.T) {
	body, _, err := s.source.Blob(t.Context(), s.whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if n, err := body.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes are read from a closed blob", n)
	}
}

func (s *suite) concurrent(t *testing.T) {
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			if _, _, err := s.source.Manifest(t.Context(), "v1"); err != nil {
				return err
			}
			body, _, err := s.source.Blob(t.Context(), s.whole)
			if err != nil {
				return err
			}
			defer body.Close()
			verifier := s.whole.Verifier()
			if _, err := io.Copy(verifier, body); err != nil || !verifier.Verified() {
				return fmt.Errorf("a blob that several read: %w", err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
