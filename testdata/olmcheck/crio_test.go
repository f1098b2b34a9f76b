//go:build containers_image_openpgp

package olmcheck

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"

	"github.com/mirror-appliance/appliance/mirror/signature/signaturetest"
)

// TestCRIO compares the verdicts of mirror/signature with those of the library by which CRI-O pulls.
func TestCRIO(t *testing.T) {
	for _, c := range signaturetest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			if err := judged(t, c); (err == nil) != (c.Want == "") {
				t.Errorf("CRI-O: %v, and here %q", err, c.Want)
			}
		})
	}
}

// judged returns the verdict of the library. It takes sigstore signatures from its own transports only, so
// that the image is put into a directory.
func judged(t *testing.T, c signaturetest.Case) error {
	t.Helper()
	dir := t.TempDir()
	blob, err := json.Marshal(map[string]any{"mimeType": "application/vnd.dev.cosign.simplesigning.v1+json",
		"payload": []byte(c.Text), "annotations": c.Annotations})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"version": "Directory Transport Version: 1.2\n",
		"manifest.json": signaturetest.Manifest, "signature-1": "\x00sigstore-json\n" + string(blob)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := directory.NewReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	source, err := ref.NewImageSource(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	policy, err := signature.NewPolicyFromBytes([]byte(`{"default":[` + c.Requirement + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	judge, err := signature.NewPolicyContext(policy)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = judge.Destroy() }()
	_, err = judge.IsRunningImageAllowed(t.Context(), image.UnparsedInstance(source, nil))
	return err
}
