package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// theirs is an install-config.yaml of the user's; the zero value is that there is none.
type theirs struct {
	text   []byte // without marks of the document's end
	root   *yaml.Node
	keys   theirKeys
	secret auths
}

// theirKeys are the keys that are read.
type theirKeys struct {
	Metadata struct{ Name string }
	Secret   string   `yaml:"pullSecret"`
	Bundle   string   `yaml:"additionalTrustBundle"`
	Policy   string   `yaml:"additionalTrustBundlePolicy"`
	Digests  []source `yaml:"imageDigestSources"`
	Content  []source `yaml:"imageContentSources"`
}

const leaveOut = "leave --install-config out to have one made"

// readTheirs reads a user's file. Its line ends become those of this program's files, since a file with
// both would be a surprise.
func readTheirs(text []byte) (t theirs, err error) {
	t.text = withoutEnd(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	var d yamlkeys.Decoder
	t.root = d.Document(t.text, leaveOut)
	if len(d.Problems) > 0 {
		p := d.Problems[0]
		return t, atLine(p.Line, errors.New(p.Text()), p.Hint)
	}
	switch {
	case t.root.Kind != yaml.MappingNode || t.root.Style&yaml.FlowStyle != 0:
		return t, atLine(t.root.Line, errors.New("it is not a mapping with one key on each line"), "begin with 'apiVersion: v1', or "+leaveOut)
	case t.root.Column != 1:
		return t, atLine(t.root.Line, errors.New("its keys are indented"), "remove the spaces before apiVersion, and as many before each other line")
	}
	for _, into := range []any{&map[string]any{}, &t.keys} {
		if err := t.root.Decode(into); err != nil {
			return t, hint.New(fmt.Errorf("not an install-config.yaml: %s", onOneLine(err)),
				"write each key once, and "+keySecret+" and "+keyBundle+" as text: in quotes, or below a |")
		}
	}
	return t, t.check()
}

// onOneLine returns the text of an error of the YAML parser, which lists on lines of their own.
func onOneLine(err error) string {
	var list *yaml.TypeError
	if errors.As(err, &list) {
		return strings.Join(list.Errors, "; ")
	}
	return err.Error()
}

// atLine returns an error at a line; 0: of the whole file.
func atLine(line int, err error, do string) error {
	if line > 0 {
		err = fmt.Errorf("line %d: %w", line, err)
	}
	return hint.New(err, do)
}

// check refuses a pull secret and CAs that are damaged: a login or a CA of the user's would be lost.
func (t *theirs) check() error {
	if t.keys.Secret != "" && (json.Unmarshal([]byte(t.keys.Secret), &t.secret) != nil || t.secret.Auths == nil) {
		return atLine(t.line(keySecret), errors.New(keySecret+" is not a pull secret, JSON with auths"), // the parser's error may quote it
			"copy it again, whole and in single quotes; with "+keySecret+": '' the login of the mirror alone is in it")
	}
	if t.keys.Bundle == "" {
		return nil
	}
	if err := checkCA([]byte(t.keys.Bundle)); err != nil {
		return atLine(t.line(keyBundle), fmt.Errorf("%s: %w", keyBundle, err),
			"copy the certificates again, whole, from -----BEGIN CERTIFICATE----- on; or leave the key out")
	}
	return nil
}

// line returns the line of a key.
func (t *theirs) line(key string) int {
	for n := 0; n < len(t.root.Content); n += 2 {
		if t.root.Content[n].Value == key {
			return t.root.Content[n].Line
		}
	}
	return 0
}

// withoutEnd returns a text without the marks of the document's end, behind which no key can be put.
func withoutEnd(text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	for n := len(lines) - 1; n >= 0; n-- {
		switch {
		case bytes.HasPrefix(lines[n], []byte("...")), bytes.HasPrefix(lines[n], []byte("---")):
			lines[n] = nil
		case !isAside(lines[n]):
			return bytes.Join(lines, nil)
		}
	}
	return text
}

// sources returns the entries of the user's file.
func (t *theirs) sources() []source { return slices.Concat(t.keys.Digests, t.keys.Content) }

// warnOfTheirs warns of what the user's file has and the result has not.
func (r *renderer) warnOfTheirs() {
	warn := func(format string, args ...any) { r.warn(installConfigFile+": "+format, args...) }
	r.warnOfSources(warn)
	if policy := r.theirs.keys.Policy; policy != "" && policy != always && len(r.bundle) > 0 {
		warn("%s is %s in place of %s, with which the cluster uses the CAs for a proxy only", keyPolicy, always, policy)
	}
	var others map[string]any
	if json.Unmarshal([]byte(r.theirs.keys.Secret), &others) == nil {
		delete(others, "auths")
	}
	if len(others) > 0 {
		warn("%s has auths alone, and no more %s", keySecret, strings.Join(slices.Sorted(maps.Keys(others)), ", "))
	}
	for _, one := range r.Registries {
		if was, _ := r.theirs.secret.Auths[one.Address]["auth"].(string); was != "" && one.Auth != "" && was != one.Auth {
			warn("%s has another login for %s than before, that of the nodes", keySecret, one.Address)
		}
	}
}

func (r *renderer) warnOfSources(warn func(format string, args ...any)) {
	for _, s := range r.theirs.sources() {
		now := r.sourcesOf(s.Source)
		var gone, mirrors []string
		for _, n := range now {
			mirrors = append(mirrors, n.Mirrors...)
		}
		for _, m := range s.Mirrors {
			if !slices.Contains(mirrors, m) {
				gone = append(gone, m)
			}
		}
		if len(gone) > 0 {
			warn("%s is read at %s, and no more at %s", s.Source, strings.Join(mirrors, ", "), strings.Join(gone, ", "))
		}
		switch {
		case s.Policy != neverContact, slices.ContainsFunc(now, func(n source) bool { return n.Policy == neverContact }):
		case !r.Version.sourcePolicy():
			warn("sourcePolicy %s of %s is left out: OpenShift %s does not know it (4.21 does)", s.Policy, s.Source, r.Version)
		default:
			warn("sourcePolicy %s of %s is left out: --never-contact-source sets it", s.Policy, s.Source)
		}
	}
}

// sourcesOf returns the entries of a source in the result.
func (r *renderer) sourcesOf(name string) []source {
	return slices.DeleteFunc(slices.Clone(r.sources), func(s source) bool { return s.Source != name })
}

// complete puts the keys about the mirror into the user's file. The lines of the other keys stay as
// they are.
func (r *renderer) complete() ([]byte, error) {
	bundle := r.theirs.keys.Bundle
	for _, one := range splitCertificates(r.bundle) {
		if !strings.Contains(string(certificates([]byte(bundle))), one) {
			if bundle != "" && !strings.HasSuffix(bundle, "\n") {
				bundle += "\n"
			}
			bundle += one
		}
	}
	keys, err := r.keysAboutMirror(bundle)
	if err != nil {
		return nil, err
	}
	rest := withoutKeys(r.theirs.text, r.theirs.root, keySecret, keyBundle, keyPolicy, keyDigests, keyContent)
	if len(rest) > 0 && !bytes.HasSuffix(rest, []byte("\n")) {
		rest = append(rest, '\n')
	}
	whole := append(rest, keys...)
	return whole, sameElsewhere(r.theirs.root, whole)
}

// withoutKeys returns a text without the lines of some keys of its outermost mapping. Comments and
// blank lines after a key stay, since they are about the next.
func withoutKeys(text []byte, root *yaml.Node, keys ...string) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	var rest []byte
	next := 0
	for n := 0; n < len(root.Content); n += 2 {
		from, to := root.Content[n].Line-1, len(lines)
		if n+2 < len(root.Content) {
			to = root.Content[n+2].Line - 1
		}
		if !slices.Contains(keys, root.Content[n].Value) {
			continue
		}
		for to > from+1 && isAside(lines[to-1]) {
			to--
		}
		rest = append(rest, bytes.Join(lines[next:from], nil)...)
		next = to
	}
	return append(rest, bytes.Join(lines[next:], nil)...)
}

// isAside reports whether a line belongs to no value: it is blank, or a comment at its beginning.
func isAside(line []byte) bool {
	return len(bytes.TrimSpace(line)) == 0 || line[0] == '#'
}

// sameElsewhere returns an error if a text differs from a document in more than the keys about the
// mirror.
func sameElsewhere(root *yaml.Node, text []byte) error {
	var before, after map[string]any
	if err := root.Decode(&before); err != nil {
		return err
	}
	err := yaml.Unmarshal(text, &after)
	_, there := after[keySecret]
	for _, key := range []string{keySecret, keyBundle, keyPolicy, keyDigests, keyContent} {
		delete(before, key)
		delete(after, key)
	}
	a, errA := json.Marshal(before)
	b, errB := json.Marshal(after)
	if err != nil || errA != nil || errB != nil || !there || !bytes.Equal(a, b) {
		return hint.New(fmt.Errorf("the keys about the mirror cannot be put in without changing others"),
			"write each key of the outermost level on a line of its own, without anchors (&name) in "+
				keySecret+", "+keyBundle+" and "+keyDigests)
	}
	return nil
}
