package registry_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestConsole_signatures(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    graph: true\n    channels: [{name: eus-4.18, minVersion: 4.18.1, maxVersion: 4.18.2}]\n")
	u.becomes("eus-4.18", "4.18.1 4.18.2")
	s := u.logIn(t, "pull")
	tags, err := u.admin.Tags(t.Context(), api.TagsRequest{Repository: "openshift/release-images"})
	must(t, err)
	release := tags.Tags[0]
	at := "/images/signatures?image=" + url.QueryEscape(release.Digest.String()) + "&repository=openshift%2Frelease-images"
	s.has(t, "/repositories/openshift/release-images?image="+release.Tag, "Verify the signatures", "hx-get=\""+strings.ReplaceAll(at, "&", "&amp;"))
	s.has(t, at, ">valid<", "policy openshift, key SHA256:", "release 4.18", ">not verified<", "OpenPGP, of a release", "which is not one of the vendor&#39;s")

	other := u.limited(t, "limited", "pull", "openshift/release")
	if code, _, body := other.get(t, at); code != http.StatusNotFound || strings.Contains(body, "SHA256") {
		t.Errorf("a user learns of the signatures of what it may not see: %d", code)
	}
	parts, err := u.admin.Tags(t.Context(), api.TagsRequest{Repository: "openshift/release", Page: api.Page{Search: "etcd"}})
	must(t, err)
	part := "/images/signatures?repository=openshift%2Frelease&image=" + parts.Tags[0].Tag
	s.has(t, part, ">valid<", "release 4.18")
	other.has(t, part, ">not verified<", "no release here has a policy", "!release 4.18")
}

func TestConsole_signaturesOfOthers(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "pull")
	img := r.image(t, "team/app:v1")
	at := "/images/signatures?repository=team%2Fapp&image=v1"
	s.has(t, at, "Neither a signature of this image")
	d, err := remote.Head(tag(t, "team/app:v1"), r.remote(t, "admin", password)...)
	must(t, err)
	signed := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), "application/vnd.cncf.notary.signature"), *d).(v1.Image)
	must(t, remote.Write(tag(t, "team/app:notary"), signed, r.remote(t, "admin", password)...))
	r.image(t, "team/app:"+strings.Replace(digestOf(t, img), ":", "-", 1)+".sig")
	s.has(t, at, ">not verified<", "signatures of this form are not verified here", "application/vnd.cncf.notary.signature", ">invalid<", "it cannot be read")
	if code, _, body := s.get(t, "/images/signatures?repository=team%2Fapp&image=none"); code != http.StatusNotFound || !strings.Contains(body, "has no tag none") {
		t.Errorf("of what there is not: %d", code)
	}
}
