package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// getBlob sends a blob or the parts that Range requests.
func (a *API) getBlob(w http.ResponseWriter, r *http.Request, t target) error {
	err := a.sendHeld(w, r, t, t.repo)
	if errors.Is(err, store.ErrNotFound) {
		if other, ok := a.otherPath(r, t, a.store.Blobs.AnyRepositories); ok {
			err = a.sendHeld(w, r, t, other.repo)
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, store.ErrNotFound) && a.pulledThrough(t.repo) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		rc, size, err := a.upstream.Blob(ctx, t.repo, t.digest)
		if err != nil {
			return a.fromUpstream(r, blobCodes, err)
		}
		defer rc.Close()
		content := a.follow(w, rc)
		defer content.end()
		defer cancel() // ends a Read that end would otherwise wait for
		return serveBlob(w, r, t.digest, size, content)
	}
	return blobCodes.explain(err)
}

// sendHeld sends the blob t that the store has in a repository, or redirects the client to it. With an
// error of the store it has sent nothing.
func (a *API) sendHeld(w http.ResponseWriter, r *http.Request, t target, repo string) error {
	if a.redirects(r) {
		address, err := a.store.Blobs.Address(r.Context(), repo, t.digest)
		if err != nil {
			return err
		}
		a.held(t.repo)
		redirect(w, t.digest, address)
		return nil
	}
	blob, err := a.store.Blobs.Open(r.Context(), repo, t.digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	a.held(t.repo)
	return serveBlob(w, r, t.digest, blob.Size, blob.ReadSeekCloser)
}

// redirects reports whether the storage can answer the request. It knows neither several ranges nor the
// etags of here, and refuses a request that has the login of here too. A download that has broken off
// goes on here.
func (a *API) redirects(r *http.Request) bool {
	if a.redirect == nil || a.redirect.Shares(r.Host) {
		return false
	}
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	return true
}

// redirect sends a client to an address that is good for some minutes and must not be kept. The body is
// empty: the address is as good as a login for the blob.
func redirect(w http.ResponseWriter, d digest.Digest, address string) {
	h := w.Header()
	setVersion(h)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Cache-Control", "no-store")
	h.Set("Location", address)
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// headBlob tells a pushing client that it need not send a blob. The store records the check, so
// that collection keeps the blob until the push ends.
func (a *API) headBlob(w http.ResponseWriter, r *http.Request, t target) error {
	size, err := a.store.Blobs.Stat(r.Context(), t.repo, t.digest)
	if errors.Is(err, store.ErrNotFound) && a.pulledThrough(t.repo) {
		size, err = a.upstream.Stat(r.Context(), t.repo, t.digest)
		err = a.fromUpstream(r, blobCodes, err)
	}
	if err != nil {
		return blobCodes.explain(err)
	}
	h := w.Header()
	setBlobHeaders(h, t.digest)
	if matches(r.Header.Values("If-None-Match"), t.digest) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Accept-Ranges", "bytes")
	if size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// deleteBlob removes a blob from a repository unless a manifest there refers to it.
func (a *API) deleteBlob(w http.ResponseWriter, r *http.Request, t target) error {
	err := a.changes.Do(r.Context(), func(ctx context.Context) error { return a.store.Blobs.Delete(ctx, t.repo, t.digest) })
	if err != nil {
		return blobCodes.explain(fmt.Errorf("delete blob: %w", err))
	}
	a.auditChange(r, change{event: "delete blob", repo: t.repo, digest: t.digest})
	accepted(w)
	return nil
}

func serveBlob(w http.ResponseWriter, r *http.Request, d digest.Digest, size int64, content io.ReadSeeker) error {
	if size == 0 {
		r.Header.Del("Range") // nothing satisfies a range of an empty blob
	}
	setBlobHeaders(w.Header(), d)
	if matches(r.Header.Values("If-None-Match"), d) { // takes precedence over Range
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	// ServeContent would refuse a range in plain text. An If-Range of other content disables Range.
	if r.Header.Get("If-Range") == "" || r.Header.Get("If-Range") == etag(d) {
		usable, err := usableRange(r.Header.Get("Range"), size)
		if err != nil {
			return err
		}
		r.Header.Set("Range", usable)
	}
	http.ServeContent(piecewise{w}, r, "", time.Time{}, content)
	return nil
}

func setBlobHeaders(h http.Header, d digest.Digest) {
	setVersion(h)
	setDigest(h, d)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
}
