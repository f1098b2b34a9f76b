package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// wanted notes each manifest that a client does not get.
func (a *API) wanted(get handle) handle {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		err := get(w, r, t)
		if err == nil || r.Context().Err() != nil {
			return err
		}
		repo, ref := t.repo, t.tag
		if ref == "" {
			ref = t.digest.String()
		}
		if ns := r.URL.Query().Get("ns"); ns != "" && !a.pulledThrough(repo) && image.ValidRepository(ns+"/"+repo) {
			repo = ns + "/" + repo
		}
		id, _ := auth.IdentityFrom(r.Context())
		a.missed(repo, ref, id.Name, r.RemoteAddr)
		return err
	}
}

// getManifest answers GET and HEAD with the bytes and the media type as pushed. It ignores Accept:
// a conversion would change the digest.
func (a *API) getManifest(w http.ResponseWriter, r *http.Request, t target) error {
	r = a.markable(w, r)
	if r.Method == http.MethodHead && a.pulledThrough(t.repo) {
		if m, ok := a.manifestElsewhere(r, t); ok {
			beginManifest(w, r, m.MediaType, m.Digest, int64(len(m.Body)))
			return nil
		}
		return a.headThrough(w, r, t)
	}
	m, err := a.manifest(r, t)
	if err != nil {
		return explainManifest(err)
	}
	if beginManifest(w, r, m.MediaType, m.Digest, int64(len(m.Body))) && r.Method == http.MethodGet {
		_, _ = w.Write(m.Body) // fails only if the client went away
	}
	return nil
}

// beginManifest sends the header of an answer and reports whether the manifest follows.
func beginManifest(w http.ResponseWriter, r *http.Request, mediaType string, d digest.Digest, size int64) bool {
	h := w.Header()
	setVersion(h)
	setDigest(h, d)
	if matches(r.Header.Values("If-None-Match"), d) {
		w.WriteHeader(http.StatusNotModified)
		return false
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("X-Content-Type-Options", "nosniff")
	// Any media type may be pushed, also text/html: a link to such a manifest must not become a
	// page that runs with the login of an administrator's browser.
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	w.WriteHeader(http.StatusOK)
	return true
}

// manifest finds a manifest. Tags that are pulled through go to the upstream, which knows their
// TTL; a digest never changes.
func (a *API) manifest(r *http.Request, t target) (store.Manifest, error) {
	ctx := r.Context()
	if t.tag != "" {
		if a.pulledThrough(t.repo) {
			m, err := a.upstream.Manifest(ctx, t.repo, t.tag)
			return m, a.fromUpstream(r, manifestCodes, err)
		}
		return a.store.Manifests.ByTag(ctx, t.repo, t.tag)
	}
	m, err := a.store.Manifests.Get(ctx, t.repo, t.digest)
	if errors.Is(err, store.ErrNotFound) {
		if other, ok := a.manifestElsewhere(r, t); ok {
			return other, nil
		}
	}
	if errors.Is(err, store.ErrNotFound) && a.pulledThrough(t.repo) {
		m, err = a.upstream.Manifest(ctx, t.repo, t.digest.String())
		return m, a.fromUpstream(r, manifestCodes, err)
	}
	if err == nil {
		a.held(t.repo)
	}
	return m, err
}

func explainManifest(err error) error {
	var absent *store.NotFoundError
	if errors.As(err, &absent) && absent.Kind == "repository" {
		return repoCodes.explain(err)
	}
	return manifestCodes.explain(err)
}

// putManifest stores a manifest and all its tags in one transaction.
func (a *API) putManifest(w http.ResponseWriter, r *http.Request, t target) error {
	if err := a.refusePush(t.repo); err != nil {
		return err
	}
	body, err := readManifest(w, r)
	if err != nil {
		return err
	}
	asked := r.URL.Query()["tag"]
	put := store.PutOptions{MediaType: r.Header.Get("Content-Type"), Digest: t.digest, Tags: asked}
	if t.tag != "" {
		asked, put.Tags = nil, []string{t.tag}
	}
	for _, tag := range asked {
		if image.CheckTag(tag) != nil {
			return refuse(http.StatusBadRequest, codeManifestInvalid, "%.200q cannot be a tag", tag)
		}
	}
	var stored store.Manifest
	err = a.changes.Do(r.Context(), func(ctx context.Context) (err error) {
		stored, err = a.store.Manifests.Put(ctx, t.repo, body, put)
		return err
	})
	if err != nil {
		return manifestCodes.explain(err)
	}
	a.auditChange(r, change{event: "push", repo: t.repo, tags: put.Tags, digest: stored.Digest})
	h := w.Header()
	setVersion(h)
	h.Set("Location", target{kind: kindManifest, repo: t.repo, digest: stored.Digest}.path())
	h.Set("Docker-Content-Digest", stored.Digest.String())
	if stored.Subject != "" {
		h.Set("OCI-Subject", stored.Subject.String())
	}
	for _, tag := range asked {
		h.Add("OCI-Tag", tag)
	}
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// deleteManifest deletes a tag, or a manifest with all its tags.
func (a *API) deleteManifest(w http.ResponseWriter, r *http.Request, t target) error {
	err := a.changes.Do(r.Context(), func(ctx context.Context) error { return a.delete(r.WithContext(ctx), t) })
	if err != nil {
		return manifestCodes.explain(err)
	}
	accepted(w)
	return nil
}

// Delete does what DELETE of a tag or a digest does, for another handler, which has checked that the user
// of the request may. Its errors are those of the store.
func (a *API) Delete(r *http.Request, repo, ref string) error {
	t := target{kind: kindManifest, repo: repo, tag: ref}
	if d, err := digest.Parse(ref); err == nil {
		t.tag, t.digest = "", d
	}
	return a.delete(r, t)
}

func (a *API) delete(r *http.Request, t target) (err error) {
	if t.tag != "" {
		if err := a.store.Tags.Delete(r.Context(), t.repo, t.tag); err != nil {
			return fmt.Errorf("delete tag: %w", err)
		}
		a.auditChange(r, change{event: "delete tag", repo: t.repo, tags: []string{t.tag}})
		return nil
	}
	gone := []digest.Digest{t.digest}
	if a.cascade {
		gone, err = a.store.Manifests.DeleteImage(r.Context(), t.repo, t.digest)
	} else {
		err = a.store.Manifests.Delete(r.Context(), t.repo, t.digest)
	}
	if err != nil {
		return fmt.Errorf("delete manifest: %w", err)
	}
	for _, d := range gone {
		a.auditChange(r, change{event: "delete", repo: t.repo, digest: d})
	}
	return nil
}

// accepted answers a delete.
func accepted(w http.ResponseWriter) {
	setVersion(w.Header())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
}

// readManifest reads a body of at most the size of a manifest.
func readManifest(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > image.MaxManifestBytes {
		return nil, errLargeManifest()
	}
	var body bytes.Buffer
	if r.ContentLength > 0 { // an announced size gets at most 64 KiB before the bytes arrive
		body.Grow(int(min(r.ContentLength, 64<<10)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, image.MaxManifestBytes))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, errLargeManifest()
	}
	if err != nil {
		return nil, errBody(err)
	}
	return body.Bytes(), nil
}

func errLargeManifest() error {
	return refuse(http.StatusRequestEntityTooLarge, codeManifestInvalid, "the manifest is larger than %d MiB "+
		"(%d bytes), the most that is accepted", image.MaxManifestBytes>>20, image.MaxManifestBytes)
}

// setDigest sets the headers that identify the content.
func setDigest(h http.Header, d digest.Digest) {
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", etag(d))
}

func etag(d digest.Digest) string { return `"` + d.String() + `"` }

// matches reports whether If-None-Match names the content. Some clients send the digest unquoted.
func matches(values []string, d digest.Digest) bool {
	for _, value := range values {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || strings.Trim(tag, `"`) == d.String() {
				return true
			}
		}
	}
	return false
}
