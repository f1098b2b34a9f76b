package pull

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// refusal returns the status that a client gets for an error, 0 if it is no refusal.
func refusal(err error) int {
	var answer interface {
		Refused() (status int, after time.Duration)
	}
	if !errors.As(err, &answer) {
		return 0
	}
	status, _ := answer.Refused()
	return status
}

// What is held is served although nothing may be fetched, without a request; the rest is refused with
// the reason, and is fetched again afterwards.
func TestPuller_Hold(t *testing.T) {
	f := newFixture(t)
	f.wantTag(f.manifest)
	if _, err := f.pull(f.blob); err != nil {
		t.Fatal(err)
	}
	other := f.pushBlob([]byte("another"))
	reason := errors.New("the link is cut")
	f.Hold(reason)
	f.pass(time.Hour) // the TTL of the tag is over
	before := f.total()
	f.wantTag(f.manifest)
	f.wantResolved("v1", f.manifest)
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("what is held: %d bytes, %v", len(got), err)
	}
	f.wantAbsent("sha256-" + f.manifest.Encoded() + ".sig")
	if list, err := f.Referrers(t.Context(), here, f.manifest); err != nil || len(list) != 0 {
		t.Errorf("referrers of what is held: %v, %v", list, err)
	}
	_, unknown := f.Manifest(t.Context(), here, "v2")
	_, unresolved := f.Resolve(t.Context(), here, digest.FromString("x").String())
	_, unsized := f.Stat(t.Context(), here, other)
	_, unread := f.pull(other)
	for what, err := range map[string]error{"a manifest": unknown, "a HEAD": unresolved, "a size": unsized, "a blob": unread} {
		if !errors.Is(err, reason) || refusal(err) != http.StatusForbidden {
			t.Errorf("%s that is not held: %v", what, err)
		}
	}
	if n := f.total() - before; n != 0 {
		t.Errorf("the upstream got %d requests", n)
	}
	f.Hold(nil)
	if got, err := f.pull(other); err != nil || string(got) != "another" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	body, moved := f.pushManifest("v1", []byte("moved"))
	if m, err := f.Manifest(t.Context(), here, "v1"); err != nil || !bytes.Equal(m.Body, body) || m.Digest != moved {
		t.Errorf("the tag afterwards: %s, %v", m.Digest, err)
	}
}

// A download under way ends at once.
func TestPuller_Hold_endsDownloads(t *testing.T) {
	f := newFixture(t)
	sent, release := f.halfway()
	defer close(release)
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	<-sent
	f.Hold(errors.New("the link is cut"))
	if got, err := io.ReadAll(rc); err == nil || len(got) == len(f.layer) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// New routes are in force at once, and leave the downloads of the old ones alone.
func TestPuller_SetRoutes(t *testing.T) {
	f := newFixture(t)
	sent, release := f.halfway()
	rc, _, err := f.Blob(t.Context(), here, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	<-sent
	f.SetRoutes([]Route{{Prefix: "hub/library", Source: f.client, Path: "library"}, {Prefix: "hub", Source: f.client, Path: "nowhere"}})
	close(release)
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("a download that had begun: %d bytes, %v", len(got), err)
	}
	f.misbehave(nil)
	f.wantTag(f.manifest) // by the longer prefix
	before := f.asked("GET /v2/nowhere/other/manifests/v1")
	if _, err := f.Manifest(t.Context(), "hub/other", "v1"); err == nil || f.asked("GET /v2/nowhere/other/manifests/v1") != before+1 {
		t.Errorf("by the shorter prefix: %v, asked %v", err, f.seen)
	}
	f.SetRoutes(nil)
	if f.Serves(here) {
		t.Error("a route that is gone serves")
	}
}

// What a route does not permit is refused, and served if it is held.
func TestPuller_permits(t *testing.T) {
	f := newFixture(t)
	if _, err := f.pull(f.blob); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("not allowed")
	var asked string
	f.SetRoutes([]Route{{Prefix: "hub", Source: f.client, Permits: func(path string) error { asked = path; return reason }}})
	if _, err := f.Manifest(t.Context(), here, "v1"); !errors.Is(err, reason) || refusal(err) != http.StatusForbidden || asked != there {
		t.Errorf("of %s: %v", asked, err)
	}
	if got, err := f.pull(f.blob); err != nil || !bytes.Equal(got, f.layer) || !f.Serves(here) {
		t.Errorf("what is held: %d bytes, %v", len(got), err)
	}
}

// All blobs of a route share its pace.
func TestPuller_pace(t *testing.T) {
	f := newFixture(t)
	var asked int
	f.SetRoutes([]Route{{Prefix: "hub", Source: f.client, Pace: func(_ context.Context, n int) error { asked += n; return nil }}})
	if got, err := f.pull(f.blob); err != nil || len(got) != asked {
		t.Errorf("%d bytes, %v, of which %d were asked for", len(got), err, asked)
	}
}
