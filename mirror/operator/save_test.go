package operator_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

func TestReadIndex_returnsWhatWasWritten(t *testing.T) {
	for _, name := range []string{"trees", "odd", "formats"} {
		x := scan(t, catalog(t, name))
		var first, second bytes.Buffer
		if n, err := x.WriteTo(&first); err != nil || n != int64(first.Len()) {
			t.Fatal(n, err)
		}
		again, err := operator.ReadIndex(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.WriteTo(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: the index differs after it was saved: %v", name, err)
		}
		before, err := x.Select(imageset.Operator{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		after, err := again.Select(imageset.Operator{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		files := catalog(t, name)
		compare(t, read(t, after, files), read(t, before, files))
	}
}

func TestReadIndex_damageIsAnError(t *testing.T) {
	var saved bytes.Buffer
	if _, err := scan(t, catalog(t, "formats")).WriteTo(&saved); err != nil {
		t.Fatal(err)
	}
	for i := range saved.Len() {
		text := bytes.Clone(saved.Bytes())
		text[i] ^= 4
		if _, err := operator.ReadIndex(bytes.NewReader(text)); err == nil || hint.Of(err) == "" {
			t.Fatalf("a bit of byte %d is changed: %v", i, err)
		}
		if _, err := operator.ReadIndex(bytes.NewReader(text[:i])); err == nil {
			t.Fatalf("the index is cut at byte %d, and is read", i)
		}
	}
	if _, err := operator.ReadIndex(strings.NewReader("")); err == nil {
		t.Error("an empty index is read")
	}
}
