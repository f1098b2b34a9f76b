package registry

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store"
)

func TestUsers_Lookup(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(dir, "appliance.db"), Storage: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := store.User{Name: "ci", Role: "push", PasswordHash: []byte("hash"), Repositories: []string{"openshift/*"}}
	if err := s.Users.Put(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, found, err := users{s}.Lookup(t.Context(), "ci")
	if err != nil || !found || got.Role != want.Role || string(got.PasswordHash) != "hash" || !slices.Equal(got.Repositories, want.Repositories) {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
	if _, found, err := (users{s}).Lookup(t.Context(), "nobody"); found || err != nil {
		t.Errorf("nobody: %v, %v", found, err)
	}
}
