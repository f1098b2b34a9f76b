//go:build e2e

package main_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// movesUnderLoad moves images and database within a file system and to another one, and kills the
// command and the host in the middle of it.
func (b *box) movesUnderLoad(t *testing.T) {
	t.Helper()
	const here, there = "--quayStorage /srv/images --sqliteStorage /srv/db", "--quayStorage /srv/disk/images --sqliteStorage /srv/disk/db"
	mount := func() { // renames lead not into it
		b.inside(t, "sh", "-c", "mkdir -p /srv/disk && mount --bind /srv/disk /srv/disk")
	}
	mount()
	at := func(where string) {
		t.Helper()
		b.healthy(t)
		if conf := b.inside(t, "cat", "/root/quay-install/quay-config/config.yaml"); !strings.Contains(conf, "\nstorage: "+strings.Fields(where)[1]+"\n") {
			t.Errorf("it is not at %s:\n%s", where, conf)
		}
		if left := b.inside(t, "sh", "-c", "ls -d /usr/local/bin/*.upgrade /etc/systemd/system/*recover* /etc/systemd/system/appliance.service.wants "+
			"/root/quay-install/run/upgrade /root/quay-install/quay-config/undo /root/quay-install/quay-storage 2>/dev/null || true"); left != "" {
			t.Errorf("left: %s", left)
		}
	}
	upgrade := func(flags string) string { return b.inside(t, "sh", "-c", installed+" upgrade "+flags+" 2>&1") }
	b.underLoad(t, func() {
		upgrade(here)
		at(here)
		upgrade(there)
		at(there)
		for range 3 { // whatever it has come to, it goes on or back
			b.inside(t, "sh", "-c", fmt.Sprintf("%s upgrade %s & pid=$!; sleep %.2f; kill -9 $pid; wait $pid; true", installed, here, rand.Float64()*2))
			b.healthy(t)
			upgrade(here)
			at(here)
			upgrade(there)
		}
	})
	b.inside(t, "systemd-run", "--collect", installed, "upgrade", "--quayStorage", "/srv/images")
	waitFor(t, "the move to begin", func() error {
		_, err := b.run("exec", "ls", "/root/quay-install/quay-config/undo")
		return err
	})
	b.must(t, "kill")
	b.must(t, "up")
	mount()
	b.healthy(t)
	upgrade(here)
	at(here)
	if out := b.inside(t, installed, "verify", "--content"); !strings.Contains(out, "nothing is damaged") {
		t.Error(out)
	}
	b.inside(t, "sh", "-c", "umount /srv/disk && rmdir /srv/disk")
}
