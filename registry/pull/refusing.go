package pull

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// refusing is a Source from which nothing is fetched, with the reason.
type refusing struct{ reason *refusedError }

// refusedError is the answer to a request for what is not held and may not be fetched. A client is
// denied: it repeats a request that failed otherwise, and waits each time.
type refusedError struct {
	error
	cut bool // by Hold
}

// Kind is as in package upstream.
func (e *refusedError) Kind() string {
	if e.cut {
		return "offline"
	}
	return "policy"
}

// Refused is as in package upstream.
func (e *refusedError) Refused() (status int, after time.Duration) { return http.StatusForbidden, 0 }

// Answered is as in package upstream.
func (e *refusedError) Answered() bool { return true }

func (e *refusedError) Unwrap() error { return e.error }

func (r refusing) refuse() error { return r.reason }

func (r refusing) Resolve(context.Context, string, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, r.refuse()
}

func (r refusing) Manifest(context.Context, string, string) (ocispec.Descriptor, []byte, error) {
	return ocispec.Descriptor{}, nil, r.refuse()
}

func (r refusing) Referrers(context.Context, string, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, r.refuse()
}

func (r refusing) Tags(context.Context, string) ([]string, error) { return nil, r.refuse() }

func (r refusing) Stat(context.Context, string, digest.Digest) (int64, error) { return 0, r.refuse() }

func (r refusing) BlobFrom(context.Context, string, digest.Digest, int64) (io.ReadCloser, int64, error) {
	return nil, 0, r.refuse()
}
