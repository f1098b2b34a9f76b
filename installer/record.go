package installer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// record is quay-config/install.json: what cannot be seen later, but an uninstall has to know. It is
// written before what it speaks of, and completed by later installs, so that a killed install forgets
// nothing.
type record struct {
	Version   int         `json:"version"`
	Created   []string    `json:"createdDirectories"`          // were not there before
	Before    []dirBefore `json:"directoriesBefore,omitempty"` // of the user's, which were given to the service
	User      bool        `json:"createdUser"`                 // the system user was not there before
	Lingering bool        `json:"enabledLingering"`            // was off before
	Binary    string      `json:"binary"`
	Storage   string      `json:"storage"`
	Database  string      `json:"database"` // the directory
	// What follows, a record of an earlier version does not have.
	File  string   `json:"databaseFile,omitempty"` // its name in that directory
	Owner string   `json:"owner,omitempty"`        // the service's user; empty: who installed it
	Files []string `json:"createdFiles,omitempty"` // certificates and keys that were not there before
}

const recordVersion = 1

const recordName = "install.json"

func recordPath(quayRoot string) string { return filepath.Join(quayRoot, "quay-config", recordName) }

// readRecord returns nil when there is none.
func readRecord(h *host.Host, quayRoot string) (*record, error) {
	path := recordPath(quayRoot)
	content, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what an earlier install recorded: %w", err)
	}
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%s was written by another version of the appliance (%d, this one knows %d)", path, r.Version, recordVersion)
	}
	return &r, nil
}

// merge adds what an earlier record knows and this one cannot see any more.
func (r *record) merge(earlier *record) {
	if earlier == nil {
		return
	}
	for _, dir := range earlier.Created {
		if !slices.Contains(r.Created, dir) {
			r.Created = append(r.Created, dir)
		}
	}
	r.Files = append(r.Files, earlier.Files...)
	r.Before = append(slices.Clone(earlier.Before), r.Before...)
	r.User = r.User || earlier.User
	r.Lingering = r.Lingering || earlier.Lingering
}

// marshal always gives the same bytes for the same facts, in whatever order they became known.
func (r *record) marshal() []byte {
	slices.Sort(r.Created) // a directory comes before what is in it
	r.Created = slices.Compact(r.Created)
	slices.Sort(r.Files)
	r.Files = slices.Compact(r.Files)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // strings and booleans
	}
	return append(b, '\n')
}

func (r *record) created(dir string) bool { return r != nil && slices.Contains(r.Created, dir) }
