package installer

import (
	"errors"
	"testing"
)

func TestLock(t *testing.T) {
	b := newBox(t, false)
	unlock, err := Lock(b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(b.deps); !errors.Is(err, errBusy) {
		t.Errorf("while another holds it: %v", err)
	}
	unlock()
	unlock, err = Lock(b.deps)
	if err != nil {
		t.Fatalf("after the other has ended: %v", err)
	}
	unlock()
	b.deps.Home = "/nowhere"
	if _, err := Lock(b.deps); err != nil {
		t.Errorf("without a home directory: %v", err)
	}
}
