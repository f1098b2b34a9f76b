package store

import (
	"sync"

	"github.com/opencontainers/go-digest"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// linkWatches are those of the runs that are being committed. SQLite's pre-update hook names each link of a blob that is deleted,
// in whatever way, so that no method that deletes can be forgotten.
type linkWatches struct {
	watching sync.Mutex // guards what follows
	all      map[*linkWatch]bool
}

// lostKept is how many are linked again in the transaction that commits a run.
const lostKept = 2000

// linkWatch notes what links of blobs are deleted. That a deletion is rolled back it does not notice.
type linkWatch struct {
	of   *linkWatches
	lost map[use]bool
	many bool // they are not told apart any more
}

// watch begins one, which takes note of what a transaction deletes that begins after that. The caller unwatches.
func (w *linkWatches) watch() *linkWatch {
	w.watching.Lock()
	defer w.watching.Unlock()
	if w.all == nil {
		w.all = map[*linkWatch]bool{}
	}
	one := &linkWatch{of: w, lost: map[use]bool{}}
	w.all[one] = true
	return one
}

func (w *linkWatches) unwatch(one *linkWatch) {
	w.watching.Lock()
	defer w.watching.Unlock()
	delete(w.all, one)
}

// note is called by SQLite for each row of repository_blobs that changes, before the commit.
func (w *linkWatches) note(row modernc.SQLitePreUpdateData) {
	w.watching.Lock()
	defer w.watching.Unlock()
	if row.Op != sqlite3.SQLITE_DELETE || len(w.all) == 0 {
		return
	}
	columns := make([]any, 2) // which the driver fills
	err := row.Old(columns...)
	id, isID := columns[0].(int64)
	d, isDigest := columns[1].(string)
	for one := range w.all {
		if err != nil || !isID || !isDigest || len(one.lost) >= lostKept {
			one.many = true
			continue
		}
		one.lost[use{id, digest.Digest(d)}] = true
	}
}

// take gives what was lost since it was last called, or says that this is more than one transaction is for.
func (one *linkWatch) take() (lost []use, many bool) {
	one.of.watching.Lock()
	defer one.of.watching.Unlock()
	for u := range one.lost {
		lost = append(lost, u)
	}
	many = one.many
	clear(one.lost)
	one.many = false
	return lost, many
}
