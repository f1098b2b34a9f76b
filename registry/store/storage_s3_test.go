//go:build s3

package store

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Another bucket, or another prefix of it, must not look like a registry that has lost all blobs.
func TestOpen_ofAnotherPrefix(t *testing.T) {
	f := newFixture(t)
	if f.bucket == nil {
		t.Fatal("APPLIANCE_TEST_STORAGE is not s3: run `make s3`")
	}
	f.pushImage("app", "app", "v1")
	f.must(f.Close())
	f.Store = nil
	o := f.options()
	o.Storage, _ = f.bucket.Address(t, "another")
	if s, err := Open(f.ctx, o); err == nil || !strings.Contains(err.Error(), "the blobs of the database are missing: there are none in s3://images/another") || hint.Of(err) == "" {
		t.Errorf("Open gives %v, %v, hint %q", s, err, hint.Of(err))
	}
	f.reopen()
	f.mustHave("app", "v1")
	f.mustBeClean()
}
