package oci

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestManifest_tooManyDescriptorsAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	body := bytes.NewBufferString(`{"schemaVersion":2,"manifests":[`)
	const n = 24000
	for i := range n {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(body, `{"mediaType":%q,"digest":%q,"size":1}`, ocispec.MediaTypeImageManifest, digest.FromString(fmt.Sprint(i)))
	}
	body.WriteString(`]}`)
	r := f.do(http.StatusBadRequest, "PUT", "/v2/a/x/manifests/v1", body.Bytes(), "Content-Type", ocispec.MediaTypeImageIndex)
	for _, want := range []string{codeManifestInvalid, fmt.Sprint(n), fmt.Sprint(4096)} {
		if !strings.Contains(string(r.body), want) {
			t.Errorf("the answer lacks %s: %s", want, r.body)
		}
	}
}
