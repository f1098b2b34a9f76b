package host

import (
	"path/filepath"
)

// Closed returns the existing directories above path that user may not pass through, innermost first. It judges by owner,
// group and mode, and ignores access lists.
func (h *Host) Closed(path string, user Owner) ([]string, error) {
	var closed []string
	for dir := filepath.Dir(filepath.Clean(path)); ; dir = filepath.Dir(dir) {
		info, err := h.StatTarget(dir)
		if err != nil && !absent(err) {
			return nil, err
		}
		if err == nil && info.Mode.IsDir() && !info.searchable(user) {
			closed = append(closed, dir)
		}
		if dir == filepath.Dir(dir) {
			return closed, nil
		}
	}
}

func (i Info) searchable(user Owner) bool {
	switch perm := i.Mode.Perm(); {
	case user.UID == i.Owner.UID:
		return perm&0o100 != 0
	case user.GID == i.Owner.GID:
		return perm&0o010 != 0
	default:
		return perm&0o001 != 0
	}
}
