package ready

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// namespace keeps a signature of a verdict from being one of anything else, see ssh-keygen -Y.
const namespace = "appliance-ready"

// Sealed is a verdict with the signature of its canonical JSON: without spaces, the keys in order, as
// jq -cSj has it.
type Sealed struct {
	Verdict   json.RawMessage `json:"verdict"`
	Signature string          `json:"signature"` // armored, as ssh-keygen -Y sign writes it
}

// Seal signs a verdict with a private key of SSH, see package sshkey.
func Seal(v api.Verdict, signer ssh.Signer) (*Sealed, error) {
	text, err := json.Marshal(v)
	if err == nil {
		text, err = canonical(text)
	}
	if err != nil {
		return nil, err
	}
	signed, err := sshsig.Sign(bytes.NewReader(text), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("sign the verdict: %w", err)
	}
	return &Sealed{text, string(sshsig.Armor(signed))}, nil
}

// canonical returns JSON without spaces, with the keys in order.
func canonical(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the verdict")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Opened is a verdict that was read from a file.
type Opened struct {
	api.Verdict
	// Key is the fingerprint of the key that has signed it, "" if none has.
	Key string `json:"key,omitempty"`
	// Signer are the principals that the key is of, "" if it was compared with none.
	Signer string `json:"signer,omitempty"`
}

// Open reads a file with a verdict, and verifies its signature, if it has one. With allowed, a file as
// ssh-keygen's allowed_signers, it is to be that of one of these.
func Open(text, allowed []byte, now time.Time) (*Opened, error) {
	var sealed Sealed
	if err := json.Unmarshal(text, &sealed); err != nil {
		return nil, hint.New(fmt.Errorf("it is no verdict: %w", err), "name what appliance ready -o json, or --sign, has written")
	}
	opened := &Opened{}
	if sealed.Verdict == nil {
		sealed.Verdict = text
	}
	if err := json.Unmarshal(sealed.Verdict, &opened.Verdict); err != nil || !complete(opened.Verdict) {
		return nil, hint.New(errors.New("it is no verdict"), "name what appliance ready -o json, or --sign, has written")
	}
	switch {
	case sealed.Signature == "" && allowed == nil:
		return opened, nil
	case sealed.Signature == "":
		return nil, hint.New(errors.New("it is not signed"), "sign it when it is given: appliance ready --sign KEY")
	}
	key, err := verify(sealed)
	if err != nil {
		return nil, hint.New(fmt.Errorf("its signature: %w", err), "do not trust it: it was changed since it was signed, or the signature is of something else")
	}
	opened.Key = ssh.FingerprintSHA256(key)
	if allowed != nil {
		if opened.Signer, err = signerOf(key, allowed, now); err != nil {
			return nil, err
		}
	}
	return opened, nil
}

// complete reports whether a verdict has what each has: one that is not a no is about releases.
func complete(v api.Verdict) bool {
	switch v.Answer {
	case api.ReadyNo:
	case api.ReadyYes, api.ReadyRisks:
		if len(v.Basis.Releases) == 0 {
			return false
		}
	default:
		return false
	}
	return v.To != "" && v.Registry != "" && !v.Made.IsZero()
}

func verify(sealed Sealed) (ssh.PublicKey, error) {
	text, err := canonical(sealed.Verdict)
	if err != nil {
		return nil, err
	}
	signed, err := sshsig.Unarmor([]byte(sealed.Signature))
	if err != nil {
		return nil, err
	}
	return signed.PublicKey, sshsig.Verify(bytes.NewReader(text), signed, signed.PublicKey, signed.HashAlgorithm, namespace)
}

// signerOf returns the principals of a key in a file as ssh-keygen's allowed_signers.
func signerOf(key ssh.PublicKey, allowed []byte, now time.Time) (string, error) {
	for line := range strings.Lines(string(allowed)) {
		line = strings.TrimSpace(line)
		principals, rest, ok := strings.Cut(line, " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		other, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
		if err != nil || !bytes.Equal(other.Marshal(), key.Marshal()) {
			continue
		}
		if strings.Contains(principals, "!") {
			return "", hint.New(fmt.Errorf("the principals %s of the key are negated, and that is not understood", principals), "name those that may sign")
		}
		if err := permits(options, now); err != nil {
			return "", fmt.Errorf("the key %s of %s: %w", ssh.FingerprintSHA256(key), principals, err)
		}
		return principals, nil
	}
	return "", hint.New(fmt.Errorf("it is signed by the key %s, which is none of the allowed signers", ssh.FingerprintSHA256(key)), "a line of the file is: NAME KEY, such as: ops ssh-ed25519 AAAA…")
}

// permits returns an error unless the options of an allowed signer permit a verdict of today. An option
// that is not known forbids it.
func permits(options []string, now time.Time) error {
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			if !covers(value) {
				return fmt.Errorf("it is for %s, and not for %s", value, namespace)
			}
		case "valid-after", "valid-before":
			at, err := dateOf(value)
			if err != nil {
				return err
			}
			if now.Before(at) == (strings.ToLower(name) == "valid-after") {
				return fmt.Errorf("it is not valid now: %s", o)
			}
		default:
			return fmt.Errorf("its option %s is not understood", name)
		}
	}
	return nil
}

// covers reports whether a list of namespaces has that of verdicts.
func covers(list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if name == namespace || name == "*" {
			return true
		}
	}
	return false
}

// dateOf reads a time as ssh-keygen writes it.
func dateOf(text string) (time.Time, error) {
	local := time.Local
	if rest, ok := strings.CutSuffix(text, "Z"); ok {
		text, local = rest, time.UTC
	}
	for _, layout := range []string{"20060102150405", "200601021504", "20060102"} {
		if len(layout) == len(text) {
			return time.ParseInLocation(layout, text, local)
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}
