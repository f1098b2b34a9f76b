package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// annotationEntry is the annotation of a signature with its entry in a log, see cosign's bundle.
const annotationEntry = "dev.sigstore.cosign/bundle"

// logEntry is an entry of Rekor, and the log's promise to keep it.
type logEntry struct {
	SignedEntryTimestamp []byte
	// Payload is what the log signs: this, as canonical JSON (RFC 8785), whose order the fields have.
	Payload struct {
		Body           string `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogID          string `json:"logID"`
		LogIndex       int64  `json:"logIndex"`
	}
}

// hashedRecord is the body of an entry about a signed text.
type hashedRecord struct {
	APIVersion, Kind string
	Spec             struct {
		Data struct {
			Hash struct{ Algorithm, Value string }
		}
		Signature struct {
			Content   []byte
			PublicKey struct{ Content []byte }
		}
	}
}

// logged returns the time at which one of some logs took up a signature. public is the key, or the
// certificate of the key, that the entry must name.
func logged(logs []*ecdsa.PublicKey, s SignedText, public []byte) (time.Time, error) {
	text := s.Layer.Annotations[annotationEntry]
	if text == "" {
		return time.Time{}, errors.New("it has no entry of a log")
	}
	var e logEntry
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return time.Time{}, fmt.Errorf("read its entry of a log: %w", err)
	}
	// What is read below is what was verified, however the annotation was written.
	canonical, err := json.Marshal(e.Payload)
	if err != nil {
		return time.Time{}, err
	}
	hash := sha256.Sum256(canonical)
	if !slices.ContainsFunc(logs, func(k *ecdsa.PublicKey) bool { return ecdsa.VerifyASN1(k, hash[:], e.SignedEntryTimestamp) }) {
		return time.Time{}, errors.New("its entry is not signed by a log of the policy")
	}
	if err := e.about(s, public); err != nil {
		return time.Time{}, err
	}
	return time.Unix(e.Payload.IntegratedTime, 0), nil
}

// about checks that an entry is about a signature by a key.
func (e *logEntry) about(s SignedText, public []byte) error {
	var r hashedRecord
	body, err := base64.StdEncoding.DecodeString(e.Payload.Body)
	if err == nil {
		err = json.Unmarshal(body, &r)
	}
	if err != nil {
		return fmt.Errorf("read its entry of a log: %w", err)
	}
	if r.Kind != "hashedrekord" || r.APIVersion != "0.0.1" || r.Spec.Data.Hash.Algorithm != "sha256" {
		return fmt.Errorf("its entry of a log is of kind %q %q with %q, which is not built", r.Kind, r.APIVersion, r.Spec.Data.Hash.Algorithm)
	}
	signed, err := base64.StdEncoding.DecodeString(s.signature())
	if err != nil {
		return fmt.Errorf("read the signature: %w", err)
	}
	by, err := decodePEM(r.Spec.Signature.PublicKey.Content)
	if err != nil {
		return fmt.Errorf("read the key of its entry of a log: %w", err)
	}
	of, err := hex.DecodeString(r.Spec.Data.Hash.Value)
	if err != nil {
		return fmt.Errorf("read its entry of a log: %w", err)
	}
	hash := sha256.Sum256(s.Text)
	switch {
	case !bytes.Equal(of, hash[:]):
		return errors.New("its entry of a log is about another text")
	case !bytes.Equal(r.Spec.Signature.Content, signed):
		return errors.New("its entry of a log is about another signature")
	case !bytes.Equal(by, public):
		return errors.New("its entry of a log is about another key")
	}
	return nil
}
