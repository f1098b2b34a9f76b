package store

import "github.com/mirror-appliance/appliance/registry/store/database"

// The topics of changes of which daemons of one database are told.
const (
	topicImages = "images" // see Store.Changed
	topicFeed   = "feed"   // see Feed.Changed
	topicNotes  = "notes"  // see Store.Noted
)

// topicOf returns the topic of a change that others wait for, or "".
func topicOf(row database.Change) string {
	switch {
	case row.Table == "":
		return ""
	case row.Table == "changes":
		return topicFeed
	case row.Table == "meta" && isShared(row):
		return topicNotes
	case changesImages(row):
		return topicImages
	}
	return ""
}

// isShared reports whether a row of a note is of one that each daemon goes by.
func isShared(row database.Change) bool {
	name := make([]any, 1)
	if row.Old(name...) != nil {
		return true // too many rows to be named
	}
	return name[0] == RoleNote || name[0] == OfflineNote
}

// The notes that each daemon of a store goes by, see Noted.
const (
	RoleNote    = "role"    // of package role
	OfflineNote = "offline" // the link is cut
)

// told is called with the topics of changes, of this daemon or another, or with nil when all may have
// changed.
func (s *core) told(topics []string) {
	if topics == nil {
		topics = []string{topicImages, topicFeed, topicNotes}
	}
	for _, topic := range topics {
		switch topic {
		case topicImages:
			s.signal.pending.Store(true)
			s.signal.committed()
		case topicFeed:
			s.feed.pending.Store(true)
			s.feed.committed()
		case topicNotes:
			select {
			case s.noted <- struct{}{}:
			default: // it has one
			}
		}
	}
}

// Noted returns a channel that has a value after a daemon wrote one of the notes that each goes by. It
// is for one receiver.
func (s *core) Noted() <-chan struct{} { return s.noted }
