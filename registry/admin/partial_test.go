package admin_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// seeking counts what is read of its content.
type seeking struct {
	*bytes.Reader
	read int
}

func (s *seeking) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.read += n
	return n, err
}

// halfSent leaves the first half of a blob of 4 MiB, which an upload of run has sent.
func halfSent(t *testing.T, run *client.Run) (string, ocispec.Descriptor) {
	t.Helper()
	content := strings.Repeat("half of it, or so", 4<<20/16)[:4<<20]
	dead := errors.New("the line is dead")
	half := io.MultiReader(strings.NewReader(content[:2<<20]), iotest.ErrReader(dead))
	if err := run.PutBlob(t.Context(), "a/b", blobOf(content), half); !errors.Is(err, dead) {
		t.Fatalf("the error is %v", err)
	}
	return content, blobOf(content)
}

// ended waits until the daemon has noticed that a connection broke.
func (f *fixture) ended() {
	f.handling.Lock()
	defer f.handling.Unlock()
}

func sent(t *testing.T, run *client.Run, content string) int {
	t.Helper()
	body := &seeking{Reader: bytes.NewReader([]byte(content))}
	must(t, run.PutBlob(t.Context(), "a/b", blobOf(content), body))
	return body.read
}

func TestRun_PutBlob_sendsTheRest(t *testing.T) {
	t.Run("in the same run", func(t *testing.T) {
		f := serve(t)
		run := begin(t, f)
		content, desc := halfSent(t, run)
		// What net/http has buffered when the body breaks off is not sent.
		if n := sent(t, run, content); n > 3<<20 {
			t.Errorf("%d bytes are read", n)
		}
		if n := sent(t, run, content); n != len(content) {
			t.Errorf("%d bytes are read of what was put to its end", n)
		}
		if has, err := hasBlob(t.Context(), run, "a/b", desc.Digest); !has || err != nil {
			t.Errorf("exists: %v, %v", has, err)
		}
	})
	t.Run("in another run", func(t *testing.T) {
		f := serve(t)
		content, desc := halfSent(t, begin(t, f))
		f.ended()
		run := begin(t, f)
		has, err := hasBlob(t.Context(), run, "a/b", desc.Digest)
		if has || err != nil {
			t.Errorf("half of it exists: %v, %v", has, err)
		}
		f.status.Space = []api.Space{{Path: "/storage", Free: 100}}
		if free, _, _, err := run.Room(t.Context()); err != nil || free < 1<<20 {
			t.Errorf("there is room for %d bytes, %v", free, err)
		}
		if n := sent(t, run, content); n > 3<<20 {
			t.Errorf("%d bytes are read", n)
		}
	})
	t.Run("which is none, since an answer was lost", func(t *testing.T) {
		f := serve(t)
		run := begin(t, f)
		content, _ := halfSent(t, run)
		other, err := f.store.Runs.Get(t.Context(), run.ID())
		must(t, err)
		must(t, other.PutBlob(t.Context(), "a/b", blobOf(content), strings.NewReader(content)))
		if n := sent(t, run, content); n != 0 {
			t.Errorf("%d bytes are read", n)
		}
	})
	t.Run("unless it is gone since", func(t *testing.T) {
		f := serve(t)
		content, desc := halfSent(t, begin(t, f))
		f.ended()
		run := begin(t, f)
		_, err := hasBlob(t.Context(), run, "a/b", desc.Digest)
		must(t, err)
		whole, err := f.store.Runs.Get(t.Context(), run.ID())
		must(t, err)
		must(t, whole.PutBlob(t.Context(), "other", desc, strings.NewReader(content)))
		body := &seeking{Reader: bytes.NewReader([]byte(content))}
		var refused *client.Refused
		if err := run.PutBlob(t.Context(), "a/b", desc, body); !errors.As(err, &refused) || refused.Refused() || refused.Mismatch() {
			t.Errorf("the error is %v", err)
		}
		if n := sent(t, run, content); n != len(content) {
			t.Errorf("%d bytes are read", n)
		}
	})
}

func TestPutBlob_wrongOffset(t *testing.T) {
	f := serve(t)
	run := begin(t, f)
	for _, offset := range []string{"x", "-1", "9223372036854775807", "5"} {
		path := strings.NewReplacer("{id}", run.ID(), "{digest}", digest.FromString("x").String()).Replace(api.PutBlob.Path)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://local"+path+"?repository=a", strings.NewReader("x"))
		must(t, err)
		req.Header.Set(api.UploadOffset, offset)
		resp, err := f.http.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		want := http.StatusBadRequest
		if offset == "5" { // a client of the daemon may have been right
			want = http.StatusConflict
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", offset, resp.Status, want)
		}
	}
}
