package blobstoretest

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

func testNotes(t *testing.T, s suite) {
	ctx := t.Context()
	read := func(of blobstore.Storage, want string) (seen blobstore.Version) {
		t.Helper()
		text, seen, err := of.ReadNote(ctx, "note")
		if want == "" && errors.Is(err, fs.ErrNotExist) && seen == nil {
			return nil
		}
		if string(text) != want || err != nil {
			t.Errorf("the note is %q, %v, want %q", text, err, want)
		}
		return seen
	}
	write := func(text string, seen blobstore.Version, want error) {
		t.Helper()
		if err := s.WriteNote(ctx, "note", []byte(text), seen); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("writing %q gives %v, want %v", text, err, want)
		}
	}
	read(s, "")
	write("a", nil, nil)
	write("b", nil, blobstore.ErrNoteChanged)
	first := read(s.again(), "a")
	write("b", first, nil)
	write("c", first, blobstore.ErrNoteChanged)
	last := read(s.again(), "b")
	must(t, s.RemoveNote(ctx, "note"))
	must(t, s.RemoveNote(ctx, "note")) // that is gone
	write("c", last, blobstore.ErrNoteChanged)
	read(s, "")
	long := strings.Repeat("long ", 1000)
	write(long, nil, nil)
	read(s.again(), long)
	if _, _, err := s.ReadNote(ctx, "another"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a note of another name: %v", err)
	}
	must(t, s.WriteNote(ctx, "another", []byte("other"), nil))
	must(t, s.RemoveNote(ctx, "another"))
	read(s, long)
}
