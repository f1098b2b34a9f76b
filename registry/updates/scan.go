package updates

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// releaseRepositories are what the names of repositories with releases end in: oc-mirror's and this
// program's, the vendor's, and those of OKD. Each tag there is looked at.
func releaseRepositories() []string {
	return []string{"release-images", "ocp-release", "scos-release", "okd-scos", "okd"}
}

// releaseTag is like the tags of releases, wherever they are: oc adm release mirror puts releases and
// their components into one repository.
const releaseTag = "[0-9]*.[0-9]*.[0-9]*-*"

// noted begins the names of notes about images.
const noted = "release "

// scanner looks for releases and graph data in the store. It has one caller at a time.
type scanner struct {
	Options
	known map[digest.Digest]*known // nil at first
	data  graphImage               // of the last pass
}

// known is what was read of an image. Its note has the exported fields.
type known struct {
	// Reason is why it is not a release, "" if it is one.
	Reason string `json:"reason,omitempty"`
	Arch   string `json:"arch,omitempty"`
	// Raw is its file release-metadata.
	Raw json.RawMessage `json:"metadata,omitempty"`
	// Components is the repository of its components at their source, "" if that is not known.
	Components string `json:"components,omitempty"`

	metadata graphdata.Metadata
	seen     bool // in this pass
}

// candidate is an image that may be a release, in one of its places.
type candidate struct {
	store.Tag
	origin    string // as its source names it, "" if no run has mirrored it
	signature []byte
	distrust  string // why it does not count there
}

// place returns repository:tag, or the repository alone.
func (c candidate) place() string { return strings.TrimSuffix(c.Repository+":"+c.Name, ":") }

// scan is one pass.
func (s *scanner) scan(ctx context.Context) (*state, error) {
	if err := s.recall(ctx); err != nil {
		return nil, err
	}
	recorded, err := documents.Origins(ctx, s.Store.Tags)
	if err != nil {
		return nil, err
	}
	trust, err := newTrust(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	all, err := s.candidates(ctx, recorded, trust)
	if err != nil {
		return nil, err
	}
	next := &state{made: time.Now(), signatures: map[string][][]byte{}, places: map[digest.Digest]string{}}
	if err := s.take(ctx, all, next); err != nil {
		return nil, err
	}
	s.forget(ctx)
	if err := s.graph(ctx, recorded, trust, next); err != nil {
		return nil, err
	}
	return next, nil
}

// take adds the releases among candidates, each digest by the first of its places where it is whole, and
// those that are whole in none. A problem names one image of each repository whose releases do not count.
func (s *scanner) take(ctx context.Context, all []candidate, next *state) error {
	done, told := map[digest.Digest]bool{}, map[string]bool{}
	unread := map[digest.Digest]error{}
	for _, c := range all {
		if done[c.Digest] {
			continue
		}
		found, err := s.read(ctx, c)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && c.distrust == "":
			if unread[c.Digest] == nil {
				unread[c.Digest] = err
			}
		case err != nil:
		case found.Reason == "" && c.distrust != "":
			if !told[c.Repository] {
				next.problems = append(next.problems, graphdata.Problem{Where: c.place(), What: c.distrust})
			}
			told[c.Repository] = true
		default:
			done[c.Digest] = true
			if found.Reason == "" {
				next.releases = append(next.releases, s.release(c, found))
				next.places[c.Digest] = c.place()
				next.sign(c.Digest, c.signature)
			}
		}
	}
	for _, c := range all { // in their order
		if err := unread[c.Digest]; err != nil && !done[c.Digest] {
			next.unread = append(next.unread, Unread{c.Tag, err})
			done[c.Digest] = true
		}
	}
	return nil
}

// recall reads the notes, once.
func (s *scanner) recall(ctx context.Context) error {
	if s.known != nil {
		return nil
	}
	notes, err := s.Store.Notes(ctx, noted)
	if err != nil {
		return err
	}
	s.known = map[digest.Digest]*known{}
	for name, text := range notes {
		k := new(known)
		if json.Unmarshal([]byte(text), k) != nil || k.parse() != nil {
			continue // it is read again
		}
		s.known[digest.Digest(name)] = k
	}
	return nil
}

// parse reads the metadata of a release.
func (k *known) parse() (err error) {
	if k.Reason == "" {
		k.metadata, err = graphdata.ParseMetadata(k.Raw)
	}
	return err
}

// forget removes what is known of images that are not there any more.
func (s *scanner) forget(ctx context.Context) {
	for d, k := range s.known {
		if k.seen {
			k.seen = false
			continue
		}
		if err := s.Store.SetNote(ctx, noted+d.String(), ""); err != nil {
			return // the next pass tries again
		}
		delete(s.known, d)
	}
}

// candidates returns the images that may be releases, by digest, those of runs first and those that do not
// count last.
func (s *scanner) candidates(ctx context.Context, recorded []mirror.Origin, trust *trust) ([]candidate, error) {
	var tags []store.Tag
	for _, name := range releaseRepositories() {
		some, err := s.Store.Tags.Matching(ctx, "*"+name, "*")
		if err != nil {
			return nil, err
		}
		pulled, err := s.Store.Manifests.PulledIn(ctx, "*"+name)
		if err != nil {
			return nil, err
		}
		for _, t := range append(some, pulled...) {
			if path.Base(t.Repository) == name && !attachment(t.Name) {
				tags = append(tags, t)
			}
		}
	}
	named, err := s.Store.Tags.Matching(ctx, "*", releaseTag)
	if err != nil {
		return nil, err
	}
	for _, t := range named {
		if cluster.IsRelease(t.Name) {
			tags = append(tags, t)
		}
	}
	held, err := mirror.HeldReleases(recorded)
	if err != nil {
		return nil, err
	}
	return join(ctx, held, tags, trust)
}

// attachment reports whether a tag is that of a signature or another attachment of an image.
func attachment(tag string) bool { return strings.HasPrefix(tag, "sha256-") }

// join returns the images that runs have mirrored, those that have nothing but a tag, and those that do not
// count, in the order of their digests.
func join(ctx context.Context, held []mirror.HeldRelease, tags []store.Tag, trust *trust) ([]candidate, error) {
	var all, last []candidate
	for _, h := range held {
		all = append(all, candidate{Tag: store.Tag{Repository: h.Repository, Name: h.Tag, Digest: h.Digest}, origin: h.Origin, signature: h.Signature})
	}
	for _, t := range tags {
		distrust, err := trust.distrust(ctx, t)
		switch {
		case err != nil:
			return nil, err
		case distrust == "":
			all = append(all, candidate{Tag: t})
		default:
			last = append(last, candidate{Tag: t, distrust: distrust})
		}
	}
	all = append(all, last...)
	slices.SortStableFunc(all, func(a, b candidate) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return all, nil
}

// read returns what is known of an image, reading it if that is nothing. What cannot be read may
// become whole, and is not kept.
func (s *scanner) read(ctx context.Context, c candidate) (*known, error) {
	if k, ok := s.known[c.Digest]; ok {
		k.seen = true
		return k, nil
	}
	k, err := readImage(ctx, stored.Repository{Store: s.Store, Name: c.Repository}, c.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("it is not whole here: %w", err)
	}
	if err == nil {
		err = k.parse()
	}
	if err != nil {
		return nil, err
	}
	k.seen = true
	s.known[c.Digest] = k
	text, err := json.Marshal(k)
	if err == nil {
		err = s.Store.SetNote(ctx, noted+c.Digest.String(), string(text))
	}
	if err != nil { // it is read again after a restart
		s.Log.WarnContext(ctx, "what a release image says cannot be kept", "image", c.Repository+"@"+c.Digest.String(), "error", err)
	}
	return k, nil
}

// release returns a release by what is known of its image.
func (s *scanner) release(c candidate, k *known) graphdata.Release {
	name := s.Registry + "/" + c.Repository
	if source := sourceName(c.origin, k.Components); source != "" && !s.MirrorNames {
		name = source
	}
	return graphdata.Release{Metadata: k.metadata, Arch: k.Arch, Digest: c.Digest, Payload: name + "@" + c.Digest.String(), Mirrored: c.origin != ""}
}

// sourceName returns the repository of a release at its source: of what a run has recorded, or, of an
// image that a client has pushed, the one that goes with its components.
func sourceName(origin, components string) string {
	if ref, err := imageset.ParseReference(origin); err == nil && origin != "" {
		return ref.Registry() + "/" + ref.Repository()
	}
	return map[string]string{
		"quay.io/openshift-release-dev/ocp-v4.0-art-dev": "quay.io/openshift-release-dev/ocp-release",
		"quay.io/openshift-release-dev/ocp-v5.0-art-dev": "quay.io/openshift-release-dev/ocp-release",
		"quay.io/okd/scos-content":                       "quay.io/okd/scos-release",
	}[components]
}

// sign adds a signature of a release.
func (s *state) sign(d digest.Digest, signature []byte) {
	if len(signature) == 0 || len(signature) > maxSignature || d.Algorithm() != digest.SHA256 {
		return
	}
	if _, err := hex.DecodeString(d.Encoded()); err != nil {
		return
	}
	all := s.signatures[d.Encoded()]
	if !slices.ContainsFunc(all, func(other []byte) bool { return string(other) == string(signature) }) {
		s.signatures[d.Encoded()] = append(all, signature)
	}
}
