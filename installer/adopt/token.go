package adopt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/google/uuid"
)

const (
	tokenPrefix = "v0$$"
	nonceSize   = 13
	tagSize     = 16
)

var errToken = errors.New("it was encrypted with another DATABASE_SECRET_KEY, or is damaged")

// decryptToken decrypts a robot's token as Quay's database has it.
func decryptToken(secret, stored string) (string, error) {
	text, ok := strings.CutPrefix(stored, tokenPrefix)
	if !ok {
		return "", errors.New("its form is not known")
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sealed) < nonceSize+tagSize {
		return "", errToken
	}
	key, err := secretKey(secret)
	if err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	plain, err := openCCM(block, sealed[:nonceSize], sealed[nonceSize:])
	return string(plain), err
}

// secretKey makes the key of DATABASE_SECRET_KEY as Quay does: the bytes of a number, of a UUID or of
// a text, repeated to 32.
func secretKey(secret string) ([]byte, error) {
	var raw []byte
	number, isNumber := new(big.Int).SetString(secret, 10)
	id, err := uuid.Parse(secret)
	switch {
	case isNumber && number.Sign() >= 0:
		raw = number.Bytes()
	case err == nil:
		raw = id[:]
	default:
		for _, r := range secret {
			if r > 0xff {
				return nil, errors.New("DATABASE_SECRET_KEY has characters that are not in Latin-1")
			}
			raw = append(raw, byte(r))
		}
	}
	if len(raw) == 0 {
		return nil, errors.New("there is no DATABASE_SECRET_KEY in Quay's config.yaml")
	}
	key := make([]byte, 32)
	for i := range key {
		key[i] = raw[i%len(raw)]
	}
	return key, nil
}

// openCCM opens AES-CCM (RFC 3610) with a nonce of 13 bytes, a tag of 16 and no associated data. The
// standard library does not have it, and tokens are all that it is needed for.
func openCCM(block cipher.Block, nonce, sealed []byte) ([]byte, error) {
	n := len(sealed) - tagSize
	if n > 0xffff {
		return nil, fmt.Errorf("it has %d bytes", n)
	}
	counter := make([]byte, aes.BlockSize)
	counter[0] = 1 // the length takes two bytes
	copy(counter[1:], nonce)
	stream := cipher.NewCTR(block, counter)
	tag := make([]byte, aes.BlockSize)
	stream.XORKeyStream(tag, sealed[n:])
	plain := make([]byte, n)
	stream.XORKeyStream(plain, sealed[:n])

	mac := make([]byte, aes.BlockSize)
	mac[0] = (tagSize-2)/2<<3 | 1
	copy(mac[1:], nonce)
	binary.BigEndian.PutUint16(mac[14:], uint16(n))
	block.Encrypt(mac, mac)
	for rest := plain; len(rest) > 0; {
		used := subtle.XORBytes(mac, mac, rest)
		block.Encrypt(mac, mac)
		rest = rest[used:]
	}
	if subtle.ConstantTimeCompare(mac, tag) != 1 {
		return nil, errToken
	}
	return plain, nil
}
