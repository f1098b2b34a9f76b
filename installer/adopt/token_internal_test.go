package adopt

import "testing"

// TestDecryptToken has tokens that python's cryptography (AESCCM) has encrypted, as Quay does.
func TestDecryptToken(t *testing.T) {
	const token = "ROBOTTOKENA1B2C3D4E5F6A1B2C3D4E5F6A1B2C3D4E5F6A1B2C3D4E5F6XYZXYZ"
	for secret, stored := range map[string]string{
		"85112049853271294817328747192847192847": "v0$$AAECAwQFBgcICQoLDDAe5c5OOpTPH9OShvfcLFvtQ5R2afOcJM/fZf8U4h4t44ToXWpxZYFnXcG3ymB2ACuSp6BiRxSgpiGT+bs/PuZVxnCnjZHBrXQ0MrRTmHll",
		"d8b4c8ca-9e3d-4a7b-8f47-2d8b76a4b111":   "v0$$AAECAwQFBgcICQoLDNR0xFnCnosPQSgt+IP5P5J5nJUvlGeivwHCitSfmt8JYNSOHkZzUbDfifp7wK5MtfkutC4fR4Ds1vSrEaA0aWUeSjqXD5G9gZQdoC0Xic09",
		"a secret of text":                       "v0$$AAECAwQFBgcICQoLDLwqHRhb7wQLVnayiql0p1kLNuK6wB2gTFzWKVu8K9sK53aSiMavkiQ2sby/B1eBTpMUFJIol5PK340nglaA+Ag0PbN5oQXqbq/bOIKtlTZ7",
		"ü":                                      "v0$$AAECAwQFBgcICQoLDJu6sudTINLENbVP+LII+6J4g3nOQG5oaynxJIFAu+GaCElNQ+TN4rD/eKeNfGw+LvCLonIaT0Y1J4S8+gZnTR/IFgq1XnGwFBmJUXgUWCEW",
	} {
		if got, err := decryptToken(secret, stored); err != nil || got != token {
			t.Errorf("with the secret %q it is %q, %v", secret, got, err)
		}
		if got, err := decryptToken(secret+"1", stored); err == nil {
			t.Errorf("another secret gives %q", got)
		}
	}
	for _, stored := range []string{"", "plain", "v0$$", "v0$$!", "v0$$AAAA"} {
		if got, err := decryptToken("1", stored); err == nil {
			t.Errorf("%q gives %q", stored, got)
		}
	}
}
