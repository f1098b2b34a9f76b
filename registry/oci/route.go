package oci

import (
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// A kind is a route of the API.
type kind int

const (
	kindBase      kind = iota // /v2/
	kindCatalog               // /v2/_catalog
	kindTags                  // /v2/<repository>/tags/list
	kindManifest              // /v2/<repository>/manifests/<tag or digest>
	kindBlob                  // /v2/<repository>/blobs/<digest>
	kindUploads               // /v2/<repository>/blobs/uploads/
	kindUpload                // /v2/<repository>/blobs/uploads/<id>
	kindReferrers             // /v2/<repository>/referrers/<digest>
)

// A target is a parsed path. All of it is well-formed except id.
type target struct {
	kind   kind
	repo   string
	tag    string        // of a manifest; empty if it is named by digest
	digest digest.Digest // of a manifest, a blob or a subject
	id     string        // of an upload; any text
}

// parse parses a path from its end, because a repository name may contain words of the API:
// "a/manifests/tags" is one. Its error is a *problem.
func parse(path string) (target, error) {
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case ok && (rest == "" || rest == "/"):
		return target{kind: kindBase}, nil
	case ok && rest == "/_catalog":
		return target{kind: kindCatalog}, nil
	case !ok || rest[0] != '/':
		return target{}, errNoRoute(path)
	}
	head, last := cutLast(rest[1:])
	head, word := cutLast(head)
	switch {
	case word == "uploads":
		// The last but one segment decides whether this is an upload: the repository may end with
		// "uploads".
		if repo, blobs := cutLast(head); blobs == "blobs" {
			return parseUpload(repo, last)
		}
	case word == "blobs" && last == "uploads":
		return named(target{kind: kindUploads}, head) // clients forget the final slash
	case word == "blobs":
		return parseDigest(kindBlob, head, last)
	case word == "manifests":
		return parseManifest(head, last)
	case word == "referrers":
		return parseDigest(kindReferrers, head, last)
	case word == "tags" && last == "list":
		return named(target{kind: kindTags}, head)
	}
	return target{}, errNoRoute(path)
}

// cutLast cuts s at its last slash. Without one all of s is last.
func cutLast(s string) (before, last string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

func named(t target, repo string) (target, error) {
	if !image.ValidRepository(repo) {
		return target{}, errBadName(repo)
	}
	t.repo = repo
	return t, nil
}

func parseUpload(repo, id string) (target, error) {
	if id == "" {
		return named(target{kind: kindUploads}, repo)
	}
	return named(target{kind: kindUpload, id: id}, repo)
}

func parseDigest(k kind, repo, s string) (target, error) {
	t, err := named(target{kind: k}, repo)
	if err != nil {
		return target{}, err
	}
	t.digest, err = parseDigestText(s)
	return t, err
}

func parseManifest(repo, ref string) (target, error) {
	if strings.ContainsRune(ref, ':') {
		return parseDigest(kindManifest, repo, ref)
	}
	t, err := named(target{kind: kindManifest, tag: ref}, repo)
	if err == nil && image.CheckTag(ref) != nil {
		return target{}, errBadTag(ref)
	}
	return t, err
}

func parseDigestText(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := image.CheckDigest(d); err != nil {
		return "", errBadDigest(err)
	}
	return d, nil
}

// path returns the canonical path of a target.
func (t target) path() string {
	switch t.kind {
	case kindCatalog:
		return "/v2/_catalog"
	case kindTags:
		return "/v2/" + t.repo + "/tags/list"
	case kindManifest:
		return "/v2/" + t.repo + "/manifests/" + t.tag + t.digest.String()
	case kindBlob:
		return "/v2/" + t.repo + "/blobs/" + t.digest.String()
	case kindUploads:
		return "/v2/" + t.repo + "/blobs/uploads/"
	case kindUpload:
		return "/v2/" + t.repo + "/blobs/uploads/" + t.id
	case kindReferrers:
		return "/v2/" + t.repo + "/referrers/" + t.digest.String()
	default:
		return "/v2/"
	}
}
