// Package sealed has what the daemons of one database share in secret: the CA and the certificate, in
// rows that are encrypted with a key. The key is in a file of each host, and not in the database: a
// dump of the database does not have the key of the CA, and cannot sign tokens.
//
// ReadKey reads the key, Open the certificates. The rows are what counts; the files of a host are
// copies, which everything on it reads, and from which the rows are made again when they are gone.
//
// Refused: a passphrase, which would have to be stretched at each start and is guessed offline; and
// several keys at a time, for a rotation without a pause: the files of each host keep the registry
// going while the rows are made again under another key.
package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

const keySize = 32

// Key is the key that the hosts have in a file.
type Key struct {
	file string
	id   string // tells keys apart, and nothing about them
	seal cipher.AEAD
	mix  []byte // the key of Mix
}

// ReadKey reads a key of 32 random bytes in base64. A file that other users may read is refused.
func ReadKey(file string) (*Key, error) {
	const next = "make one with (umask 077; openssl rand -base64 32 > FILE), and give the same to each host"
	text, err := regular.ReadSecret(file)
	switch {
	case errors.Is(err, regular.ErrRefused):
		return nil, hint.New(fmt.Errorf("the key of the daemons, %w", err), "close it to others: "+hint.Words("chmod", "600", file))
	case err != nil:
		return nil, hint.New(fmt.Errorf("the key of the daemons, %s, cannot be read: %w", file, regular.Reason(err)),
			"copy it from another host, give it to the user who runs the registry and close it to others; if there is none yet, "+next)
	}
	secret, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(secret) != keySize { // the error would have a part of it
		return nil, hint.New(fmt.Errorf("the key of the daemons, %s, is not one line with %d bytes in base64", file, keySize), next)
	}
	return newKey(file, secret)
}

func newKey(file string, secret []byte) (*Key, error) {
	sealing, err := hkdf.Key(sha256.New, secret, nil, "appliance: seal", keySize)
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Key(sha256.New, secret, nil, "appliance: id", 6)
	if err != nil {
		return nil, err
	}
	mix, err := hkdf.Key(sha256.New, secret, nil, "appliance: mix", keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	return &Key{file, hex.EncodeToString(id), gcm, mix}, err
}

// Mix returns a secret that all daemons have and that takes both the key and a secret of the database: a
// dump of the database alone does not have it.
func (k *Key) Mix(secret []byte) []byte {
	mac := hmac.New(sha256.New, k.mix)
	mac.Write(secret)
	return mac.Sum(nil)
}

// Seal encrypts a text for one name, which is none of a row.
func (k *Key) Seal(name, text string) (sealed string) {
	data, _ := json.Marshal(k.close(name, []byte(text))) // which cannot fail
	return string(data)
}

// Unseal decrypts what Seal has made for a name.
func (k *Key) Unseal(name, sealed string) (string, error) {
	var v sharedrows.Value
	if err := json.Unmarshal([]byte(sealed), &v); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if v.Key != k.id {
		return "", fmt.Errorf("%s was encrypted with the key %s, and %s has the key %s", name, v.Key, k.file, k.id)
	}
	text, err := k.seal.Open(nil, nil, v.Data, []byte(name))
	if err != nil {
		return "", fmt.Errorf("%s was changed by something else than the appliance: it does not decrypt", name)
	}
	return string(text), nil
}

// close encrypts a text for one name.
func (k *Key) close(name string, text []byte) sharedrows.Value {
	return sharedrows.Value{Key: k.id, Data: k.seal.Seal(nil, nil, text, []byte(name))}
}

// open decrypts what close has made for a name.
func (k *Key) open(name string, v sharedrows.Value) ([]byte, error) {
	if v.Key != k.id {
		return nil, hint.New(fmt.Errorf("the daemons of this database have another key than %s: theirs is %s, that of this file %s", k.file, v.Key, k.id),
			"copy the file that sharedKey of config.yaml names from a host whose daemon runs, and restart; if that key is lost: appliance cert unshare")
	}
	text, err := k.seal.Open(nil, nil, v.Data, []byte(name))
	if err != nil {
		return nil, hint.New(fmt.Errorf("the row %q of the table sealed was changed by something else than the appliance: it does not decrypt", name),
			"restore the database; or have the files of this host be used instead: appliance cert unshare, then a restart")
	}
	return text, nil
}
