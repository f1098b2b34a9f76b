package diskspace_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/internal/diskspace"
)

func TestChecker_CheckInodes(t *testing.T) {
	for _, tc := range []struct {
		free, total int64
		full        bool
	}{
		{0, 0, false}, // btrfs counts none
		{200, 200, false}, {200/16 + 4, 200, false}, {200/16 + 3, 200, true},
		{1024, 1 << 30, true}, {1024 + 4, 1 << 30, false},
	} {
		t.Run(fmt.Sprintf("%d of %d are free", tc.free, tc.total), func(t *testing.T) {
			c := diskspace.Checker{Inodes: func(string) (int64, int64, error) { return tc.free, tc.total, nil }}
			err := c.CheckInodes("/storage")
			var full *diskspace.FullError
			if errors.As(err, &full) != tc.full {
				t.Fatalf("got %v", err)
			}
			if tc.full && (!errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "inodes") || !strings.Contains(full.Hint(), "df -i")) {
				t.Errorf("it says %v, %s", err, full.Hint())
			}
		})
	}
}

func TestChecker_Check(t *testing.T) {
	for _, tc := range []struct {
		what                            string
		free, total, min, reusable, all int64
	}{
		{what: "32 MiB of a large disk are kept", free: 33 << 20, total: 1 << 40, all: 1 << 20},
		{what: "an eighth of a small disk is kept", free: 8 << 20, total: 32 << 20, all: 4 << 20},
		{what: "minFree is kept", free: 11 << 30, total: 1 << 40, min: 10 << 30, all: 1 << 30},
		{what: "free pages of the database are free", free: 33 << 20, total: 1 << 40, reusable: 1 << 20, all: 2 << 20},
	} {
		t.Run(tc.what, func(t *testing.T) {
			c := diskspace.Checker{MinFree: tc.min, Reusable: func(string) int64 { return tc.reusable },
				Bytes:  func(string) (int64, int64, error) { return tc.free, tc.total, nil },
				Inodes: func(string) (int64, int64, error) { return 0, 0, nil }}
			if err := c.Check("/storage", tc.all); err != nil {
				t.Errorf("%d bytes are refused: %v", tc.all, err)
			}
			var full *diskspace.FullError
			if err := c.Check("/storage", tc.all+1); !errors.As(err, &full) || full.Short != 1 || full.Path != "/storage" {
				t.Errorf("for one more: %v", err)
			}
			if s, err := c.Space("/storage"); err != nil || s.Free-s.Kept != tc.all {
				t.Errorf("what is told is %+v, %v", s, err)
			}
		})
	}
}

func TestFull(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		wrapped := fmt.Errorf("write blob: %w", err)
		var full *diskspace.FullError
		if got := diskspace.Full("/storage", 7, wrapped); !errors.As(got, &full) || full.Short != 7 || full.Path != "/storage" || !errors.Is(got, err) {
			t.Errorf("%v becomes %v", wrapped, got)
		}
		if got := diskspace.Full("/elsewhere", 0, fmt.Errorf("put: %w", full)); !errors.As(got, &full) || full.Path != "/storage" {
			t.Errorf("a second time: %v", got)
		}
	}
	if err := diskspace.Full("/storage", 0, syscall.EIO); errors.As(err, new(*diskspace.FullError)) {
		t.Errorf("EIO becomes %v", err)
	}
	if err := diskspace.Full("/storage", 0, nil); err != nil {
		t.Errorf("nil becomes %v", err)
	}
}
