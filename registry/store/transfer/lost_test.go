package transfer_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// What an earlier run brought is looked for: the storage may have been lost or changed, or not mounted.
func TestRun_ofALostStorage(t *testing.T) {
	for name, lose := range map[string]func(to *place, blobs []string) error{
		"a blob":       func(_ *place, blobs []string) error { return os.Remove(blobs[2]) },
		"a part of it": func(_ *place, blobs []string) error { return os.Truncate(blobs[2], 10) },
		"all": func(to *place, _ []string) error {
			return errors.Join(os.RemoveAll(to.Storage), os.Mkdir(to.Storage, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := inFiles(t), inFiles(t)
			blobs := fill(t, from)
			run(t, from, to)
			var paths []string
			for _, b := range blobs {
				paths = append(paths, to.blob(b.Digest))
			}
			must(t, lose(&to, paths))
			if r := run(t, from, to); r.Copied == 0 || r.Copied+r.There != r.Blobs {
				t.Errorf("the report is %+v", r)
			}
			equal(t, from, to)
		})
	}
	t.Run("another one is named", func(t *testing.T) {
		from, to := inFiles(t), inFiles(t)
		fill(t, from)
		run(t, from, to)
		to.Storage = inFiles(t).Storage
		to.objects = to.Storage
		if r := run(t, from, to); r.Copied != r.Blobs {
			t.Errorf("the report is %+v", r)
		}
		equal(t, from, to)
	})
}

func TestRun_refusesAccounts(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	fill(t, from)
	must(t, to.open(t).Close())
	must(t, execIn(t, to, `INSERT INTO users (name, role, password_hash, created, updated, repositories) VALUES ('bob', 'admin', x'78', 1, 2, '')`))
	for _, dry := range []bool{true, false} {
		_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side, DryRun: dry})
		if err == nil || !strings.Contains(err.Error(), "accounts of its own, such as bob") {
			t.Errorf("Run gives %v", err)
		}
	}
}
