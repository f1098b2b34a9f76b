package registry_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

// near returns a client that has found out that the daemon is on its host.
func near(t *testing.T) (*running, *client.Client) {
	t.Helper()
	r := start(t, func(c *config.Config) { c.Hostname = "localhost" })
	_, port, err := net.SplitHostPort(r.addr)
	must(t, err)
	far, err := client.Dial(t.Context(), "localhost:"+port, "admin", password, &tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS12})
	must(t, err)
	t.Cleanup(far.Close)
	c := far.Near(t.Context())
	if c == nil {
		t.Fatal("its socket is not found")
	}
	t.Cleanup(c.Close)
	return r, c
}

func randomBlob(size int) ([]byte, ocispec.Descriptor) {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	return data, ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(size)}
}

func TestNear_largeBlobIsWrittenIntoItsFile(t *testing.T) {
	r, c := near(t)
	run, err := c.BeginSync(t.Context(), "test")
	must(t, err)
	exists := func(desc ocispec.Descriptor) bool {
		has, _, _, err := run.Existing(t.Context(), map[string][]digest.Digest{"a": {desc.Digest}}, nil)
		must(t, err)
		return len(has["a"]) == 1
	}
	t.Run("not sent", func(t *testing.T) {
		data, desc := randomBlob(3<<20 + 1)
		must(t, run.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)))
		if !exists(desc) || !strings.Contains(r.access.String(), desc.Digest.String()+"/file") {
			t.Errorf("exists: %v, requests:\n%s", exists(desc), r.access)
		}
	})
	t.Run("in several steps", func(t *testing.T) {
		data, desc := randomBlob(130 << 20)
		must(t, run.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)))
		if !exists(desc) {
			t.Error("it does not exist")
		}
	})
	t.Run("and what broke off is continued", func(t *testing.T) {
		data, desc := randomBlob(5 << 20)
		dead := errors.New("the line is dead")
		err := run.PutBlob(t.Context(), "a", desc, io.MultiReader(bytes.NewReader(data[:3<<20]), iotest.ErrReader(dead)))
		if !errors.Is(err, dead) || exists(desc) {
			t.Fatalf("the error is %v", err)
		}
		body := &seekingReader{Reader: bytes.NewReader(data)}
		must(t, run.PutBlob(t.Context(), "a", desc, body))
		if body.from < 2<<20 || !exists(desc) {
			t.Errorf("read from byte %d; exists: %v", body.from, exists(desc))
		}
	})
	t.Run("but other bytes are not taken", func(t *testing.T) {
		data, desc := randomBlob(2 << 20)
		data[1<<20] ^= 1
		err := run.PutBlob(t.Context(), "a", desc, bytes.NewReader(data))
		var refused *client.Refused
		if !errors.As(err, &refused) || !refused.Mismatch() || exists(desc) {
			t.Errorf("the error is %v", err)
		}
		data[1<<20] ^= 1
		must(t, run.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)))
	})
}

// seekingReader notes from where it is read.
type seekingReader struct {
	*bytes.Reader
	from int64
}

func (s *seekingReader) Seek(offset int64, whence int) (int64, error) {
	s.from = offset
	return s.Reader.Seek(offset, whence)
}

func TestRun_blobFilesAreNamedOnTheSocketOnly(t *testing.T) {
	r := start(t)
	run, err := r.admin.BeginSync(t.Context(), "test")
	must(t, err)
	path := "https://" + host + "/api/v1/sync/" + run.ID() + "/blobs/" + digest.FromString("x").String() + "/file"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(`{"size":2000000,"written":0}`))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("admin", password)
	resp, err := r.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "own host") {
		t.Errorf("answered %s %s", resp.Status, body)
	}
}
