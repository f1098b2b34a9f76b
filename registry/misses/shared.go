package misses

import (
	"context"
	"slices"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// add adds what was noted since the last time to the rows. The caller holds writing. What cannot be
// written is kept for the next time.
func (l *Log) add(ctx context.Context) {
	l.mu.Lock()
	noted := l.all
	l.all, l.changed = map[key]*api.Miss{}, false
	l.mu.Unlock()
	if len(noted) == 0 {
		return
	}
	rows := make([]sharedrows.Miss, 0, len(noted))
	for _, m := range noted {
		rows = append(rows, sharedrows.Miss{Repository: m.Repository, Reference: m.Reference, Count: m.Count, First: m.First, Last: m.Last, User: m.User, Address: m.Address})
	}
	err := l.shared.Add(ctx, rows, most)
	if err == nil {
		return
	}
	l.log.WarnContext(ctx, "what clients asked for and did not get could not be written; it is tried again in a minute", "error", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, m := range noted {
		if since := l.all[at]; since != nil {
			since.Count, since.First = since.Count+m.Count, m.First
			continue
		}
		l.all[at] = m
	}
	for len(l.all) > most {
		l.dropOldest()
	}
}

// read returns what is not written yet, and the rows.
func (l *Log) read(ctx context.Context) (own []api.Miss, rows []sharedrows.Miss, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	rows, err = l.shared.List(ctx)
	return l.copied(), rows, err
}

// sum returns the misses of all daemons.
func sum(own []api.Miss, rows []sharedrows.Miss) []api.Miss {
	all := slices.Clone(own)
	at := map[key]int{}
	for i, m := range all {
		at[keyOf(m)] = i
	}
	for _, row := range rows {
		m := api.Miss{Repository: row.Repository, Reference: row.Reference, Count: row.Count, First: row.First, Last: row.Last, User: row.User, Address: row.Address}
		i, noted := at[keyOf(m)]
		if !noted {
			all = append(all, m)
			continue
		}
		since := &all[i]
		since.Count += m.Count
		if m.First.Before(since.First) {
			since.First = m.First
		}
		if m.Last.After(since.Last) {
			since.Last, since.User, since.Address = m.Last, m.User, m.Address
		}
	}
	return sorted(all)
}

// forgetRows deletes the rows of those that are gone, unless a daemon has added to them.
func (l *Log) forgetRows(ctx context.Context, rows []sharedrows.Miss, gone map[key]bool) {
	rows = slices.DeleteFunc(rows, func(m sharedrows.Miss) bool { return !gone[key{m.Repository, m.Reference}] })
	if len(rows) == 0 {
		return
	}
	if err := l.shared.Delete(ctx, rows); err != nil { // they are found again with the next list
		l.log.WarnContext(ctx, "what clients missed and exists now could not be forgotten", "error", err)
	}
}
