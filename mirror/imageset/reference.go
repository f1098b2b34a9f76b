package imageset

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// Reference is the name of an image, split by the rules that decide its destination.
//
// They are oc-mirror's and not docker's: the first path element is the domain whatever its form,
// and nothing is added. Registry and Repository, from which the image is pulled, follow docker, as
// oc-mirror's copying does.
type Reference struct {
	Transport string // "docker" or "oci"
	Domain    string // may be empty
	Path      string // without domain; of oci, a directory
	Tag       string // may be empty
	Digest    digest.Digest
}

// ParseReference splits a reference. One with neither tag nor digest is an error: "latest" is not
// assumed.
func ParseReference(s string) (Reference, error) {
	r := Reference{Transport: "docker"}
	rest := s
	if shown := Shown(s); shown != s {
		return Reference{}, badLogin(shown)
	}
	if transport, after, ok := strings.Cut(s, "://"); ok {
		r.Transport, rest = transport, after
	}
	if r.Transport != "docker" && r.Transport != "oci" {
		return Reference{}, badReference(s, "transport %q is unknown", r.Transport)
	}
	if r.Transport == "oci" {
		return layoutReference(s, rest)
	}
	if name, d, ok := strings.Cut(rest, "@"); ok {
		r.Digest = digest.Digest(d)
		if image.CheckDigest(r.Digest) != nil {
			return Reference{}, badReference(s, "%q is not a digest", d)
		}
		rest = name
	}
	// The tag is what follows the last colon, if that colon is not the one before a port.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, r.Tag = rest[:i], rest[i+1:]
		if image.CheckTag(r.Tag) != nil {
			return Reference{}, badReference(s, "%q is not a tag", r.Tag)
		}
	}
	if first, below, ok := strings.Cut(rest, "/"); ok {
		if !domainForm.MatchString(first) || !hasPort(first) {
			return Reference{}, badReference(s, "%q is not a registry", first)
		}
		r.Domain, r.Path = first, below
	} else {
		r.Path = rest
	}
	if !image.ValidRepository(r.Path) {
		return Reference{}, badReference(s, "%q is not a repository name", r.Path)
	}
	if r.Tag == "" && r.Digest == "" {
		return Reference{}, badReference(s, "tag and digest are empty")
	}
	return r, nil
}

// ParseImage splits the name of an image of a cluster, where "latest" is assumed. What only a mirror can read, such
// as an OCI layout, is an error.
func ParseImage(s string) (Reference, error) {
	r, err := ParseReference(s)
	if err != nil {
		if latest, failed := ParseReference(s + ":latest"); failed == nil {
			r, err = latest, nil
		}
	}
	if err == nil && (r.Transport != "docker" || strings.Contains(s, "://")) {
		return Reference{}, badReference(s, "%q is not the name of an image in a registry", s)
	}
	return r, err
}

// digestForm is the end of a reference with a digest, also one that is wrong.
var digestForm = regexp.MustCompile(`@sha[0-9]*:[^/@]*$`)

// Shown returns the name of an image, a catalog or a registry as messages, logs and reports may have it:
// without what comes before an @ that no digest follows, which may be a login. A password may have any
// character in it, / and @ too.
func Shown(s string) string {
	if strings.HasPrefix(s, "oci://") || strings.HasPrefix(s, "dir://") { // a path of this host
		return s
	}
	name := digestForm.ReplaceAllString(s, "")
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		return "…" + s[at:]
	}
	return s
}

// badLogin is the error of a reference with a login, as it may be shown.
func badLogin(shown string) error {
	const text = "it has a login in it, which the logs would show: podman login keeps it"
	if after := strings.TrimPrefix(shown, "…@"); !strings.Contains(after, "/") {
		return badReference(shown, "%s; or %q is not a digest", text, after)
	}
	return badReference(shown, text)
}

// layoutReference splits a reference to an OCI layout: a directory, and perhaps the tag of one of its
// images.
func layoutReference(s, rest string) (Reference, error) {
	r := Reference{Transport: "oci", Path: rest}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		r.Path, r.Tag = rest[:i], rest[i+1:]
		if image.CheckTag(r.Tag) != nil {
			return Reference{}, badReference(s, "%q is not a tag", r.Tag)
		}
	}
	if strings.Trim(r.Path, "/") == "" {
		return Reference{}, badReference(s, "it names no directory")
	}
	return r, nil
}

// IsLayout reports whether the image is in an OCI layout on disk, and Path that directory.
func (r Reference) IsLayout() bool { return r.Transport == "oci" }

// DestinationPath returns the repository that the image has in a mirror.
func (r Reference) DestinationPath() string {
	if r.IsLayout() {
		return strings.TrimPrefix(path.Clean("/"+r.Path), "/")
	}
	return r.Path
}

var domainForm = regexp.MustCompile(`^(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::[0-9]+)?$`)

// hasPort reports whether the port of a domain, if it has one, exists.
func hasPort(domain string) bool {
	_, port, ok := strings.Cut(domain[strings.LastIndexByte(domain, ']')+1:], ":")
	n, err := strconv.ParseUint(port, 10, 16)
	return !ok || err == nil && n > 0
}

// Name returns the domain and the path, without tag or digest.
func (r Reference) Name() string {
	if r.Domain == "" {
		return r.Path
	}
	return r.Domain + "/" + r.Path
}

// String returns the whole reference, without transport.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// Pull returns the reference that the image is pulled by: a digest has precedence over a tag.
func (r Reference) Pull() string {
	if r.IsLayout() {
		return r.String()
	}
	if r.Digest != "" {
		return r.Name() + "@" + r.Digest.String()
	}
	return r.Name() + ":" + r.Tag
}

// Location returns Pull with its transport.
func (r Reference) Location() string {
	if r.IsLayout() {
		return "oci://" + r.Pull()
	}
	return "docker://" + r.Pull()
}

// Ref returns the tag or digest that the image is pulled by.
func (r Reference) Ref() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// DestinationTag returns the tag that the image has in a mirror: its own, or one
// made of its digest; "latest" for an OCI layout.
func (r Reference) DestinationTag() string {
	if r.Tag != "" {
		return r.Tag
	}
	if r.Digest == "" { // an OCI layout's
		return "latest"
	}
	return r.Digest.Algorithm().String() + "-" + r.Digest.Encoded()
}

// Registry returns the host[:port] that the image is pulled from.
func (r Reference) Registry() string {
	if r.qualified() {
		return r.Domain
	}
	return "docker.io"
}

// Repository returns the repository at Registry that the image is pulled from.
func (r Reference) Repository() string {
	if r.qualified() {
		if r.Domain == "docker.io" && !strings.Contains(r.Path, "/") {
			return "library/" + r.Path
		}
		return r.Path
	}
	if r.Domain == "" {
		return "library/" + r.Path
	}
	return r.Domain + "/" + r.Path
}

// Canonical returns the registry and repository under which a cluster asks for the image, however
// its name is written: Docker Hub's short names are docker.io/library/… and docker.io/….
func (r Reference) Canonical() string {
	if r.IsLayout() {
		return "oci:" + r.Path
	}
	registry, repository := r.Registry(), r.Repository()
	if registry == "index.docker.io" || registry == "registry-1.docker.io" {
		registry = "docker.io"
		if !strings.Contains(repository, "/") {
			repository = "library/" + repository
		}
	}
	return registry + "/" + repository
}

func (r Reference) qualified() bool {
	return strings.ContainsAny(r.Domain, ".:") || r.Domain == "localhost"
}

const (
	referenceHint = "write host[:port]/path:tag or host[:port]/path@sha256:…; a tag or a digest is always needed"
	layoutHint    = "write oci://DIR, or oci://DIR:TAG for one of its images; skopeo copy docker://IMAGE oci:DIR:TAG writes such a directory"
)

// badReference has oc-mirror's wording.
func badReference(s, format string, args ...any) error {
	remedy := referenceHint
	if strings.HasPrefix(s, "oci://") {
		remedy = layoutHint
	}
	return hint.New(fmt.Errorf("%s unable to parse image correctly : %s", plain.Field(s),
		plain.Field(fmt.Sprintf(format, args...))), remedy)
}
