package ready_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/ready"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
)

// verified has the signatures of an image verified, as a user in ctx.
func (f *fixture) verified(ctx context.Context, repo, origin string, d digest.Digest) api.ImageSignatures {
	f.Helper()
	service := updates.New(updates.Options{Store: f.Store, Registry: registry, Log: slog.New(slog.DiscardHandler)})
	f.must(service.Refresh(f.Context()))
	j := ready.New(ready.Options{Store: f.Store, Registry: registry, Updates: service, Dir: filepath.Join(f.dir, "read")})
	found := api.ImageSignatures{Repository: repo, Manifests: []api.SignedManifest{{Digest: d}}, Origins: []string{origin}}
	if m, err := f.Manifests.ByTag(f.Context(), repo, signatureOf(d)); err == nil {
		found.Signatures = append(found.Signatures, api.ImageSignature{SignedManifest: found.Manifests[0], In: m.Digest, Tag: signatureOf(d)})
	}
	f.must(j.Verify(ctx, &found))
	if found.Unread != "" {
		f.Errorf("not all is read: %s", found.Unread)
	}
	return found
}

func TestJudge_Verify(t *testing.T) {
	f := newFixture(t)
	r := f.release("4.18.2", "amd64")
	etcd := f.component(r, "etcd")
	is := func(found api.ImageSignatures, n int, form, result, by, reason string) {
		t.Helper()
		if len(found.Signatures) <= n {
			t.Fatalf("there are %d signatures: %+v", len(found.Signatures), found)
		}
		if s := found.Signatures[n]; s.Form != form || s.Result != result || !strings.Contains(s.By, by) || !strings.Contains(s.Reason, reason) || (by == "") != (s.By == "") || (reason == "") != (s.Reason == "") {
			t.Errorf("signature %d is %+v", n, s)
		}
	}
	name := r.Components["etcd"]
	is(f.verified(t.Context(), components, name, etcd), 0, api.SignatureSigstore, api.SignatureValid, "key SHA256:", "")
	is(f.verified(t.Context(), components, "quay.example/other@"+etcd.String(), etcd), 0, api.SignatureSigstore, api.SignatureUnknown, "", "no release here has a policy")
	is(f.verified(t.Context(), components, "", etcd), 0, api.SignatureSigstore, api.SignatureUnknown, "", "not known here what this image is a mirror of")
	release := f.verified(t.Context(), payloads, r.Payload, r.Digest)
	is(release, 0, api.SignatureOpenPGP, api.SignatureUnknown, "", "which is not one of the vendor's")
	is(release, 1, api.SignatureSigstore, api.SignatureValid, "release 4.18", "")

	other, err := f.Manifests.ByTag(t.Context(), components, signatureOf(f.component(r, "pod")))
	f.must(err)
	_, err = f.Manifests.Put(t.Context(), components, other.Body, store.PutOptions{MediaType: other.MediaType, Tags: []string{signatureOf(etcd)}})
	f.must(err)
	is(f.verified(t.Context(), components, name, etcd), 0, api.SignatureSigstore, api.SignatureInvalid, "", "refuse it by policy")
	f.lose(components, other.Digest, 1)
	is(f.verified(t.Context(), components, name, etcd), 0, api.SignatureSigstore, api.SignatureInvalid, "", "it cannot be read")
}

// A user is not told of releases in repositories that it may not see.
func TestJudge_VerifyWithinGrants(t *testing.T) {
	f := newFixture(t)
	r := f.release("4.18.2", "amd64")
	etcd := f.component(r, "etcd")
	ctx := auth.Session{Identity: auth.Identity{Name: "some", Role: auth.Pull, Repositories: []string{components}}}.With(t.Context())
	if s := f.verified(ctx, components, r.Components["etcd"], etcd).Signatures[0]; s.Result != api.SignatureUnknown {
		t.Errorf("it is %+v", s)
	}
}
