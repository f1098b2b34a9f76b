package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// behind is how many bytes are written before the kernel is told to bring them to the medium.
const behind = 8 << 20

// Behind has a file that is written from one end to the other brought to the medium meanwhile.
// Otherwise the disk idles while the bytes come, and the sync at the end waits for all of them.
type Behind struct {
	Told int64 // the offset up to which the kernel was told to begin
}

// Wrote notes that the file is written up to an offset. It is only a hint: the sync at the end
// reports what goes wrong.
func (b *Behind) Wrote(f *os.File, to int64) {
	if n := to - b.Told; n >= behind {
		_ = unix.SyncFileRange(int(f.Fd()), b.Told, n, unix.SYNC_FILE_RANGE_WRITE)
		b.Told = to
	}
}
