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
	b.waitsForItsDisk(t)
}

// waitsForItsDisk has the content be on a disk that is not mounted: commands change nothing, and the
// service comes back by itself when the disk does.
func (b *box) waitsForItsDisk(t *testing.T) {
	t.Helper()
	state := func() string {
		return b.inside(t, "systemctl", "show", "--value", "-p", "ActiveState", "appliance.socket", "appliance.service")
	}
	b.inside(t, "sh", "-c", "mount -t tmpfs none /srv && systemctl kill --signal KILL appliance.service")
	waitFor(t, "the service to miss its directories", func() error {
		if got := state(); !strings.Contains(got, "activating") {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
	before := state()
	for _, command := range []string{"install", "upgrade", "upgrade --quayStorage /root/images"} {
		b.fails(t, []string{"/srv/images, where the appliance has its content, does not exist", "mount the file system that has it"}, "exec", "sh", "-c", installed+" "+command)
	}
	if made := b.inside(t, "sh", "-c", "find /srv /root/images -mindepth 1 2>/dev/null; true"); made != "" || state() != before {
		t.Errorf("made: %s; the units were %q and are %q", made, before, state())
	}
	b.inside(t, "umount", "/srv")
	b.healthy(t)
}
