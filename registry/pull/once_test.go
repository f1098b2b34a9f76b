package pull

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding"
	"hash"
	"io"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// hashed counts the bytes that this process hashes.
var hashed atomic.Int64

type countingHash struct{ hash.Hash }

func (h countingHash) Write(p []byte) (int, error) {
	hashed.Add(int64(len(p)))
	return h.Hash.Write(p)
}

func (h countingHash) MarshalBinary() ([]byte, error) {
	return h.Hash.(encoding.BinaryMarshaler).MarshalBinary()
}

func (h countingHash) UnmarshalBinary(b []byte) error {
	return h.Hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(b)
}

// Only the store verifies pulled blobs: hashing takes most of the time.
func TestPuller_Blob_isHashedOnce(t *testing.T) {
	f := newFixture(t)
	crypto.RegisterHash(crypto.SHA256, func() hash.Hash { return countingHash{sha256.New()} })
	defer crypto.RegisterHash(crypto.SHA256, sha256.New)
	hashed.Store(0)
	got, err := f.pull(f.blob)
	if n := hashed.Load(); n != int64(len(f.layer)) {
		t.Errorf("%d bytes were hashed of a blob of %d", n, len(f.layer))
	}
	if err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// records returns a body in pieces, as TLS does, and records how much is requested.
type records struct {
	io.Reader
	asked []int
}

func (r *records) Read(p []byte) (int, error) {
	r.asked = append(r.asked, len(p))
	return r.Reader.Read(p[:min(len(p), 1000)])
}

// Writes of each record, not aligned to pages, were measured to make later reads a tenth slower.
func TestPuller_Blob_isWrittenInWholeBuffers(t *testing.T) {
	f := newFixture(t)
	body := &records{Reader: bytes.NewReader(f.layer)}
	f.open(&fakeSource{blob: func(context.Context, digest.Digest) (io.ReadCloser, int64, error) {
		return io.NopCloser(body), int64(len(f.layer)), nil
	}})
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	f.fetches.Wait()
	if body.asked[1] != body.asked[0]-1000 {
		t.Errorf("the first reads ask for %v bytes: the buffer was written before it was full", body.asked[:3])
	}
}
