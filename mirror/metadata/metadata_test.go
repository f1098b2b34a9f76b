package metadata_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// Spec: oc-mirror 9.4.
func TestCheck(t *testing.T) {
	last := metadata.New()
	last.PastMirror.Sequence = 2
	for _, tc := range []struct {
		sequence int
		there    *metadata.Metadata
		want     string
	}{
		{1, nil, ""},
		{3, last, ""},
		{2, nil, "expecting imageset with prefix mirror_seq1: invalid mirror sequence order, want 1, got 2"},
		{4, last, "expecting imageset with prefix mirror_seq3: invalid mirror sequence order, want 3, got 4"},
		{1, last, "want 3, got 1"},
		{2, last, "mirror sequence is the same"},
	} {
		err := metadata.Check(tc.sequence, tc.there)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("sequence %d: %v, want %q", tc.sequence, err, tc.want)
		}
		if order := new(metadata.OrderError); errors.As(err, order) != strings.Contains(tc.want, "want") || order.Got != tc.sequence && order.Got != 0 {
			t.Errorf("sequence %d: %#v", tc.sequence, err)
		}
	}
}

// Spec: oc-mirror 9.4.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	of := metadata.Directory(dir)
	if m, err := metadata.Read(t.Context(), of); m != nil || err != nil {
		t.Fatalf("before the first run: %v, %v", m, err)
	}
	all := []metadata.Association{{Name: "a/b:c", Path: "d/b:c", TagSymlink: "c", Type: "generic"}}
	first := metadata.New().Next(metadata.PastMirror{Mirror: []byte(`{}`), Platforms: []metadata.Platform{{Channel: "stable-4.18", MinVersion: "4.18.1"}}}, all)
	if err := metadata.Write(t.Context(), of, first); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "publish", ".metadata.json"))
	want := `{"kind":"Metadata","apiVersion":"mirror.openshift.io/v1alpha2","uid":"` + first.UID.String() + `","singleUse":false,"pastMirror":{"timestamp":0,"sequence":1,"mirror":{},` +
		`"platforms":[{"channel":"stable-4.18","minVersion":"4.18.1"}]},"pastAssociations":[{"name":"a/b:c","path":"d/b:c","id":"","tagSymlink":"c","type":"generic"}]}`
	if err != nil || strings.TrimSpace(string(text)) != want {
		t.Errorf("the file has %s, %v\nwant %s", text, err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "publish", ".metadata.json"), []byte(want+"the end of a longer one"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := metadata.Read(t.Context(), of)
	if err != nil || again.UID != first.UID || len(again.PastAssociations) != 1 || again.Next(metadata.PastMirror{}, nil).PastMirror.Sequence != 2 {
		t.Errorf("read %+v, %v", again, err)
	}
	for text, want := range map[string]string{
		"{": "unexpected EOF",
		`{"kind":"Metadata","apiVersion":"mirror.openshift.io/v1alpha1"}`: "config GVK not recognized",
	} {
		if err := os.WriteFile(filepath.Join(dir, "publish", ".metadata.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := metadata.Read(t.Context(), of)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir+"/publish/.metadata.json: ") || !strings.Contains(hint.Of(err), "oc-mirror:UID") {
			t.Errorf("%s is read, %v", text, err)
		}
	}
}
