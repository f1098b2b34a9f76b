package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

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

// requirement is one rule; all of those of a scope must hold.
type requirement struct {
	kind     string
	root     *root    // of sigstoreSigned
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
	Type     string
	KeyType  string
	KeyPath  string
	KeyPaths []string
	KeyData  []byte
	KeyDatas [][]byte
	Fulcio   *struct {
		CAPath                   string
		CAData                   []byte
		OIDCIssuer, SubjectEmail string
	}
	PKI *struct {
		CARootsPath, CAIntermediatesPath string
		CARootsData, CAIntermediatesData []byte
		SubjectEmail, SubjectHostname    string
	}
	RekorPublicKeyPath  string
	RekorPublicKeyPaths []string
	RekorPublicKeyData  []byte
	RekorPublicKeyDatas [][]byte
	SignedIdentity      *identity
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
	keys, err := texts("a key", w.KeyPath, w.KeyPaths, w.KeyData, w.KeyDatas)
	if err != nil {
		return r, err
	}
	logs, err := texts("a key of Rekor", w.RekorPublicKeyPath, w.RekorPublicKeyPaths, w.RekorPublicKeyData, w.RekorPublicKeyDatas)
	if err != nil {
		return r, err
	}
	if w.Type == signedBy {
		if w.KeyType != "GPGKeys" || logs != nil || w.Fulcio != nil || w.PKI != nil {
			return r, fmt.Errorf("keyType %q, or what is for sigstore, is not built", w.KeyType)
		}
		r.ring, err = ParseKeys(bytes.Join(keys, []byte("\n")))
		return r, err
	}
	ca, err := w.authority()
	if err == nil {
		r.root, err = newRoot(keys, logs, ca)
	}
	return r, err
}

// authority returns the CA whose certificates count, nil if keys do.
func (w *writtenRequirement) authority() (*authority, error) {
	switch {
	case w.Fulcio != nil && w.PKI != nil:
		return nil, errors.New("exactly one of fulcio and pki is wanted")
	case w.Fulcio != nil:
		roots, err := texts("the CA of Fulcio", w.Fulcio.CAPath, nil, w.Fulcio.CAData, nil)
		if err != nil {
			return nil, err
		}
		return newFulcio(bytes.Join(roots, nil), w.Fulcio.OIDCIssuer, w.Fulcio.SubjectEmail)
	case w.PKI != nil:
		roots, err := texts("the CA of the PKI", w.PKI.CARootsPath, nil, w.PKI.CARootsData, nil)
		if err != nil {
			return nil, err
		}
		between, err := texts("an intermediate CA", w.PKI.CAIntermediatesPath, nil, w.PKI.CAIntermediatesData, nil)
		if err != nil {
			return nil, err
		}
		return newPKI(bytes.Join(roots, nil), bytes.Join(between, nil), w.PKI.SubjectEmail, w.PKI.SubjectHostname)
	}
	return nil, nil
}

// texts returns what is named in one of four ways, nil for what is not named. An empty list is an error,
// since it would ask for nothing.
func texts(what, path string, paths []string, data []byte, datas [][]byte) (all [][]byte, err error) {
	ways := 0
	for _, given := range []bool{path != "", paths != nil, data != nil, datas != nil} {
		if given {
			ways++
		}
	}
	if ways == 0 {
		return nil, nil
	}
	if path != "" {
		paths = []string{path}
	}
	if all = datas; data != nil {
		all = [][]byte{data}
	}
	for _, path := range paths {
		text, err := regular.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	if ways > 1 || len(all) == 0 {
		return nil, fmt.Errorf("%s is to be named in exactly one way: by a path, paths, data or datas", what)
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
		err := r.root.verify(s)
		if err == nil {
			err = r.matches(i, s.Text, sigstoreDocument)
		}
		if err == nil {
			return nil
		}
		bad = append(bad, err)
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
		text, _, err := r.ring.read(raw)
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
