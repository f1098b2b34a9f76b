package registry_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// pushOnTrial pushes an image to a daemon that finds the installer's mark, and checks that the push waits.
func pushOnTrial(t *testing.T) (r *running, mark string, pushed chan error) {
	t.Helper()
	img, err := random.Image(1<<10, 1)
	must(t, err)
	r = start(t)
	r.end(t)
	mark = r.cfg.UpgradeMark()
	must(t, os.WriteFile(mark, nil, 0o600))
	r = run(t, r.cfg, r.roots)
	pushed = make(chan error)
	go func() { pushed <- remote.Write(tag(t, "a:v1"), img, r.remote(t, "push", password)...) }()
	select {
	case err := <-pushed:
		t.Fatalf("pushed before the upgrade was confirmed: %v", err)
	case <-time.After(time.Second):
	}
	if _, err := remote.Image(tag(t, "a:v1"), r.remote(t, "pull", password)...); err == nil {
		t.Error("a push that waits is there")
	}
	return r, mark, pushed
}

// Writes wait while an upgrade may be taken back, and pulls do not.
func TestRun_writesWaitForAnUpgrade(t *testing.T) {
	r, mark, pushed := pushOnTrial(t)
	must(t, os.Remove(mark))
	must(t, <-pushed)
	back, err := remote.Image(tag(t, "a:v1"), r.remote(t, "pull", password)...)
	must(t, err)
	must(t, validate.Image(back))
}

// A daemon that ends before that has acknowledged nothing, and has left the way back.
func TestRun_endsBeforeAnUpgradeIsConfirmed(t *testing.T) {
	r, mark, pushed := pushOnTrial(t)
	r.stop()
	if err := <-pushed; err == nil {
		t.Error("the push was acknowledged")
	}
	r.end(t)
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
}
