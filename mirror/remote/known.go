package remote

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// known is what this run has found out, so that the registry is asked for each blob once, and not
// for what it has acknowledged.
type known struct {
	mu sync.Mutex // guards the rest
	// blobs says of a blob whether it exists. One without an entry is asked for.
	blobs map[place]bool
	// manifests are those that this run has put.
	manifests map[place]manifest
	lacking   map[place]bool // manifests that did not exist when they were asked for
	kept      map[tag]bool   // tags that are set
}

func newKnown() *known {
	return &known{blobs: map[place]bool{}, manifests: map[place]manifest{}, lacking: map[place]bool{}, kept: map[tag]bool{}}
}

// blob returns whether a blob exists, if that is known.
func (k *known) blob(repo string, d digest.Digest) (exists, sure bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	exists, sure = k.blobs[place{repo, d}]
	return exists, sure
}

func (k *known) setBlob(repo string, d digest.Digest, exists bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.blobs[place{repo, d}] = exists
}

// forgetBlob is for a blob that may exist or not, as after an answer that was lost.
func (k *known) forgetBlob(repo string, d digest.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.blobs, place{repo, d})
}

// lacks notes whether a manifest was missing.
func (k *known) lacks(repo string, d digest.Digest, missing bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lacking[place{repo, d}] = missing
}

// lacked reports whether a manifest was missing and has not been put.
func (k *known) lacked(repo string, d digest.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lacking[place{repo, d}]
}

func (k *known) put(repo string, d digest.Digest, m manifest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.manifests[place{repo, d}] = m
	delete(k.lacking, place{repo, d})
}

// manifest returns one that was put.
func (k *known) manifest(repo string, d digest.Digest) (manifest, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.manifests[place{repo, d}]
	return m, ok
}

func (k *known) keep(t tag) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[t] = true
}

func (k *known) isKept(t tag) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[t]
}

// absentBlob marks the context of an upload of a blob that is known not to exist.
type absentBlob struct{}

// uploading returns a context for the upload of a blob.
func (k *known) uploading(ctx context.Context, repo string, d digest.Digest) context.Context {
	if exists, sure := k.blob(repo, d); sure && !exists {
		return context.WithValue(ctx, absentBlob{}, true)
	}
	return ctx
}
