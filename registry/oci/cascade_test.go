package oci

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// artifact pushes an artifact, with a subject and a tag unless they are empty.
func (f *fixture) artifact(repo string, subject digest.Digest, tag string, i int) digest.Digest {
	f.t.Helper()
	empty := f.pushBlob(repo, []byte("{}"))
	refers := ""
	if subject != "" {
		refers = fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":3}`, ocispec.MediaTypeImageManifest, subject)
	}
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"x/y","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"i":"%d"}%s}`,
		ocispec.MediaTypeImageManifest, empty.Digest, i, refers)
	d := digest.FromBytes(body)
	if tag == "" {
		tag = d.String()
	}
	f.putManifest("/v2/"+repo+"/manifests/"+tag, ocispec.MediaTypeImageManifest, body)
	return d
}

func TestDeleteReferrers(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			f := &fixture{t: t, dir: t.TempDir(), options: Options{DeleteReferrers: on}}
			f.open(nil)
			t.Cleanup(f.close)
			_, subject := f.pushImage("a", "latest", 1)
			f.pushImage("a", "other", 2)
			sbom := f.artifact("a", subject, "", 1)
			signature := f.artifact("a", sbom, "", 2) // of the sbom
			cosign := f.artifact("a", "", "sha256-"+subject.Encoded()+".sig", 3)
			attest := f.artifact("a", cosign, "sha256-"+subject.Encoded()+".att", 4) // found by subject and by tag
			gone := []digest.Digest{sbom, signature, cosign, attest}
			otherSig := f.artifact("a", "", "sha256-"+hex256+".sig", 5)
			elsewhere := f.artifact("b", subject, "", 6)

			f.do(http.StatusAccepted, "DELETE", "/v2/a/manifests/latest", nil)
			for _, d := range append(gone, subject) {
				f.do(http.StatusOK, "HEAD", "/v2/a/manifests/"+d.String(), nil) // deleting a tag deletes no manifest
			}
			f.do(http.StatusAccepted, "DELETE", "/v2/a/manifests/"+subject.String(), nil)
			want := http.StatusOK
			if on {
				want = http.StatusNotFound
			}
			for _, d := range gone {
				f.do(want, "HEAD", "/v2/a/manifests/"+d.String(), nil)
			}
			f.do(want, "HEAD", "/v2/a/manifests/sha256-"+subject.Encoded()+".sig", nil)
			f.do(http.StatusNotFound, "HEAD", "/v2/a/manifests/"+subject.String(), nil)
			f.do(http.StatusOK, "HEAD", "/v2/a/manifests/"+otherSig.String(), nil)
			f.do(http.StatusOK, "HEAD", "/v2/a/manifests/other", nil)
			f.do(http.StatusOK, "HEAD", "/v2/b/manifests/"+elsewhere.String(), nil)

			// Referrers of an absent manifest stay: a signature may be pushed before its image.
			early := f.artifact("a", d256, "", 7)
			f.do(http.StatusNotFound, "DELETE", "/v2/a/manifests/"+d256, nil)
			f.do(http.StatusOK, "HEAD", "/v2/a/manifests/"+early.String(), nil)
		})
	}
}

// Children that are deleted with an index take their referrers along; children that stay do not.
func TestDeleteReferrers_ofChildren(t *testing.T) {
	f := &fixture{t: t, dir: t.TempDir(), options: Options{DeleteReferrers: true}}
	f.open(nil)
	t.Cleanup(f.close)
	goes, stays := f.artifact("a", "", "", 1), f.artifact("a", "", "kept", 2)
	signature, kept := f.artifact("a", goes, "", 3), f.artifact("a", stays, "", 4)
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":1},{"mediaType":%[2]q,"digest":%[4]q,"size":1},{"mediaType":%[2]q,"digest":%[5]q,"size":1}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, goes, stays, d256)
	d := digest.FromBytes(index)
	f.putManifest("/v2/a/manifests/multi", ocispec.MediaTypeImageIndex, index)
	f.do(http.StatusAccepted, "DELETE", "/v2/a/manifests/"+d.String(), nil)
	for _, gone := range []digest.Digest{d, goes, signature} {
		f.do(http.StatusNotFound, "HEAD", "/v2/a/manifests/"+gone.String(), nil)
	}
	for _, held := range []digest.Digest{stays, kept} {
		f.do(http.StatusOK, "HEAD", "/v2/a/manifests/"+held.String(), nil)
	}
}
