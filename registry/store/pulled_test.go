package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func openTestStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Database: databaseIn(t, dir), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func commitBlob(t *testing.T, s *Store, repo, content string) digest.Digest {
	t.Helper()
	u, err := s.Uploads.New(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(u, content); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString(content)
	if _, err := u.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStore_PutPulledManifest(t *testing.T) {
	s := openTestStore(t)
	config, layer := digest.FromString("config"), digest.FromString("layer")
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/config","digest":%q,"size":6},"layers":[{"mediaType":"a/layer","digest":%q,"size":5}]}`,
		ocispec.MediaTypeImageManifest, config, layer)

	t.Run("needs no layers, and moves tags", func(t *testing.T) {
		m, err := s.Manifests.PutPulled(t.Context(), "hub/image", body, PutOptions{Digest: digest.FromBytes(body), Tags: []string{"v1"}})
		if err != nil {
			t.Fatal(err)
		}
		byTag, err := s.Manifests.ByTag(t.Context(), "hub/image", "v1")
		if err != nil || byTag.Digest != m.Digest || string(byTag.Body) != string(body) {
			t.Errorf("got %+v, %v", byTag, err)
		}
		if _, err := s.Blobs.Stat(t.Context(), "hub/image", layer); !errors.Is(err, ErrNotFound) {
			t.Errorf("an absent layer: got %v", err)
		}
	})
	t.Run("lets no push go without its layers", func(t *testing.T) {
		var missing *MissingError
		if _, err := s.Manifests.Put(t.Context(), "mine/image", body, PutOptions{}); !errors.As(err, &missing) || len(missing.Digests) != 2 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("shows no layer that another repository has", func(t *testing.T) {
		commitBlob(t, s, "elsewhere", "layer")
		for range 2 { // also when the manifest comes later than the layer
			if _, err := s.Blobs.Stat(t.Context(), "hub/image", layer); !errors.Is(err, ErrNotFound) {
				t.Errorf("looking at it gives %v", err)
			}
			if _, err := s.Blobs.Open(t.Context(), "hub/image", layer); !errors.Is(err, ErrNotFound) {
				t.Errorf("opening it gives %v", err)
			}
			if _, err := s.Blobs.Mount(t.Context(), "mine/image", "hub/image", layer); !errors.Is(err, ErrNotFound) {
				t.Errorf("mounting it from there gives %v", err)
			}
			if _, err := s.Manifests.PutPulled(t.Context(), "hub/image", body, PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("shows a layer that its upstream has confirmed", func(t *testing.T) {
		if elsewhere, err := s.Blobs.ExistsInAnother(t.Context(), "hub/image", layer); err != nil || !elsewhere {
			t.Errorf("it is held elsewhere: %v, %v", elsewhere, err)
		}
		if err := s.Blobs.LinkPulled(t.Context(), "hub/image", layer, 6); !errors.Is(err, ErrNotFound) {
			t.Errorf("with another size: %v", err)
		}
		if err := s.Blobs.LinkPulled(t.Context(), "hub/image", layer, 5); err != nil {
			t.Error(err)
		}
		if size, err := s.Blobs.Stat(t.Context(), "hub/image", layer); err != nil || size != 5 {
			t.Errorf("got %d, %v", size, err)
		}
		if elsewhere, err := s.Blobs.ExistsInAnother(t.Context(), "hub/image", layer); err != nil || elsewhere {
			t.Errorf("it is held here: %v, %v", !elsewhere, err)
		}
		if err := s.Blobs.LinkPulled(t.Context(), "hub/image", config, -1); !errors.Is(err, ErrNotFound) {
			t.Errorf("a blob that is not held: %v", err)
		}
	})
	t.Run("refuses what does not hash to its digest", func(t *testing.T) {
		var wrong *DigestError
		if _, err := s.Manifests.PutPulled(t.Context(), "hub/image", body, PutOptions{Digest: layer}); !errors.As(err, &wrong) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refuses bad names and bad manifests", func(t *testing.T) {
		var invalid *InvalidError
		for _, put := range []struct {
			repo, body string
			tags       []string
		}{{"Hub", string(body), nil}, {"hub/image", string(body), []string{"-"}}, {"hub/image", "[]", nil}} {
			if _, err := s.Manifests.PutPulled(t.Context(), put.repo, []byte(put.body), PutOptions{Tags: put.tags}); !errors.As(err, &invalid) {
				t.Errorf("%+v: got %v", put, err)
			}
		}
	})
}

func TestUpload_Open(t *testing.T) {
	for name, end := range map[string]func(*Upload) error{
		"and after Commit": func(u *Upload) error {
			_, err := u.Commit(t.Context(), digest.FromString("first second"))
			return err
		},
		"and after Cancel": func(u *Upload) error { return u.Cancel(t.Context()) },
	} {
		t.Run("is read while it is written "+name, func(t *testing.T) {
			s := openTestStore(t)
			u, err := s.Uploads.New(t.Context(), "hub/image")
			if err != nil {
				t.Fatal(err)
			}
			f, err := u.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, part := range []string{"first ", "second"} {
				from := u.Size()
				if _, err := io.WriteString(u, part); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(io.NewSectionReader(f, from, 100)); err != nil || string(got) != part {
					t.Errorf("got %q, %v", got, err)
				}
			}
			if err := end(u); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 12)
			if _, err := f.ReadAt(got, 0); err != nil || string(got) != "first second" {
				t.Errorf("got %q, %v", got, err)
			}
			if _, err := u.Open(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("after its end: got %v", err)
			}
		})
	}
}

// A sync that trusted the manifest alone would report an image as held, commit, and
// leave it without layers.
func TestRun_Existing_pulledWithoutItsLayers(t *testing.T) {
	f := newFixture(t)
	config, layer := []byte("{}"), []byte("layer")
	body := manifestOf(descriptor("x/y", config), descriptor("x/y", layer))
	_, err := f.Manifests.PutPulled(f.ctx, "hub/image", body, PutOptions{})
	f.must(err)
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	for i, want := range []bool{false, false, true} {
		has, err := hasManifest(f.ctx, r, "hub/image", digest.FromBytes(body))
		f.must(err)
		if has != want {
			t.Errorf("with %d of its 2 blobs: held %v", i, has)
		}
		if i < 2 {
			b := [][]byte{config, layer}[i]
			f.must(r.PutBlob(f.ctx, "hub/image", descriptor("x/y", b), bytes.NewReader(b)))
		}
	}
}
