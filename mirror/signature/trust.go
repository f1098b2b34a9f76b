package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// Trust is the rules of a host about the images that it takes, see containers-policy.json(5).
type Trust struct {
	byDefault []requirement
	scopes    map[string][]requirement // of registries
}

// Image is an image that is judged.
type Image struct {
	Repository string // with its registry
	Tag        string // empty for an image that is named by digest
	Manifest   digest.Digest
}

// Evidence is what is signed of an image. Each function is called when a rule asks for it.
type Evidence struct {
	Sigstore func() ([]SignedText, error)
	OpenPGP  func() ([][]byte, error)
}

// SignedText is a layer of an attachment that is a signature.
type SignedText struct {
	Layer ocispec.Descriptor
	Text  []byte
}

// requirement is one rule; all of those of a scope must hold.
type requirement struct {
	kind     string
	keys     []*key   // of sigstoreSigned
	ring     *Keyring // of signedBy
	identity identity
}

// The kinds of requirements.
const (
	acceptAnything = "insecureAcceptAnything"
	reject         = "reject"
	sigstoreSigned = "sigstoreSigned"
	signedBy       = "signedBy"
)

// writtenRequirement is a requirement in the file.
type writtenRequirement struct {
	Type           string
	KeyType        string
	KeyPath        string
	KeyPaths       []string
	KeyData        []byte
	KeyDatas       [][]byte
	SignedIdentity *identity
}

// ParseTrust reads a policy.json, and the files with keys that it names.
func ParseTrust(raw []byte) (*Trust, error) {
	var file struct {
		Default    []json.RawMessage
		Transports map[string]map[string][]json.RawMessage
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	if len(file.Default) == 0 {
		return nil, errors.New("it has no default")
	}
	t := &Trust{scopes: map[string][]requirement{}}
	var err error
	if t.byDefault, err = parseRequirements(file.Default); err != nil {
		return nil, fmt.Errorf("default: %w", err)
	}
	for scope, written := range file.Transports["docker"] {
		if t.scopes[scope], err = parseRequirements(written); err != nil {
			return nil, fmt.Errorf("transports.docker[%q]: %w", scope, err)
		}
	}
	return t, nil
}

func parseRequirements(written []json.RawMessage) ([]requirement, error) {
	var all []requirement
	for _, raw := range written {
		// An unknown key is an error, since it may restrict what is known.
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		var w writtenRequirement
		if err := d.Decode(&w); err != nil {
			return nil, err
		}
		r, err := w.parse()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Type, err)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no requirement")
	}
	return all, nil
}

func (w *writtenRequirement) parse() (requirement, error) {
	r := requirement{kind: w.Type, identity: identity{Type: "matchRepoDigestOrExact"}}
	switch w.Type {
	case acceptAnything, reject:
		return r, nil
	case sigstoreSigned, signedBy:
	default:
		return r, errors.New("requirements of this type are not built")
	}
	if w.SignedIdentity != nil {
		r.identity = *w.SignedIdentity
	}
	if err := r.identity.check(); err != nil {
		return r, err
	}
	texts, err := w.keys()
	if err != nil {
		return r, err
	}
	if w.Type == signedBy {
		if w.KeyType != "GPGKeys" {
			return r, fmt.Errorf("keyType %q is not built", w.KeyType)
		}
		r.ring, err = ParseKeys(bytes.Join(texts, []byte("\n")))
		return r, err
	}
	for _, text := range texts {
		k, err := parseKey(text)
		if err != nil {
			return r, err
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

// keys returns the texts of the keys. Exactly one of the four ways to name them is used.
func (w *writtenRequirement) keys() ([][]byte, error) {
	paths, ways := w.KeyPaths, 0
	for _, given := range []bool{w.KeyPath != "", len(w.KeyPaths) > 0, len(w.KeyData) > 0, len(w.KeyDatas) > 0} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return nil, errors.New("exactly one of keyPath, keyPaths, keyData and keyDatas is wanted")
	}
	if w.KeyPath != "" {
		paths = []string{w.KeyPath}
	}
	all := w.KeyDatas
	if len(w.KeyData) > 0 {
		all = [][]byte{w.KeyData}
	}
	for _, path := range paths {
		text, err := regular.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}

// Judge returns an error for an image that the policy does not take.
func (t *Trust) Judge(i Image, e Evidence) error {
	requirements := t.byDefault
	for _, scope := range scopes(i) {
		if found, ok := t.scopes[scope]; ok {
			requirements = found
			break
		}
	}
	for _, r := range requirements {
		if err := r.judge(i, e); err != nil {
			return fmt.Errorf("%s of %s: %w", r.kind, i.Manifest, err)
		}
	}
	return nil
}

// scopes lists the scopes that an image is in, the narrowest first.
func scopes(i Image) []string {
	all := []string{i.Repository + "@" + i.Manifest.String()}
	if i.Tag != "" {
		all = []string{i.Repository + ":" + i.Tag}
	}
	name := i.Repository
	for {
		all = append(all, name)
		n := strings.LastIndexByte(name, '/')
		if n < 0 {
			break
		}
		name = name[:n]
	}
	for domain := name; ; {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return append(all, "")
		}
		all, domain = append(all, "*."+parent), parent
	}
}

func (r *requirement) judge(i Image, e Evidence) error {
	switch r.kind {
	case acceptAnything:
		return nil
	case sigstoreSigned:
		return r.judgeSigstore(i, e)
	case signedBy:
		return r.judgeOpenPGP(i, e)
	}
	return errors.New("the policy rejects the image")
}

func (r *requirement) judgeSigstore(i Image, e Evidence) error {
	texts, err := e.Sigstore()
	if err != nil {
		return err
	}
	bad := []error{ErrNone}
	for n, s := range texts {
		if n == 0 {
			bad = nil
		}
		for _, k := range r.keys {
			err := errors.New("it is not a signature by this key")
			if k.verify(s.Text, s.Layer.Annotations[annotationSignature]) {
				err = r.matches(i, s.Text, "cosign container image signature")
			}
			if err == nil {
				return nil
			}
			bad = append(bad, err)
		}
	}
	return errors.Join(bad...)
}

func (r *requirement) judgeOpenPGP(i Image, e Evidence) error {
	signatures, err := e.OpenPGP()
	if err != nil {
		return err
	}
	if len(signatures) == 0 {
		return ErrNone
	}
	var bad []error
	for _, raw := range signatures {
		text, err := r.ring.read(raw)
		if err == nil {
			err = r.matches(i, text, "atomic container signature")
		}
		if err == nil {
			return nil
		}
		bad = append(bad, err)
	}
	return errors.Join(bad...)
}

// matches checks that a signed document is about an image.
func (r *requirement) matches(i Image, text []byte, kind string) error {
	signed, err := parseDocument(text, kind, i.Manifest)
	if err != nil {
		return err
	}
	return r.identity.matches(i, signed)
}
