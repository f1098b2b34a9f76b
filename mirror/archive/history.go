package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// The history of a workspace, as oc-mirror has it: files that list the digests that were archived,
// each with those of the files before it.
const (
	historyDir    = "working-dir/.history"
	historyPrefix = ".history-"
)

// pendingHistory is the history file of an archive while it is not whole.
const pendingHistory = ".mirror_history.partial"

// recordsFile is ours, beside oc-mirror's: which archive a history file was written with.
const recordsFile = "working-dir/internal/appliance-archives.json"

// record is one archive of a workspace.
type record struct {
	Archive  string    `json:"archive"`
	Sequence int       `json:"sequence"`
	Created  time.Time `json:"created"`
	History  string    `json:"history"`
}

// base is what an archive leaves out, and what it builds on.
type base struct {
	digests map[digest.Digest]bool
	*Base   // nil: nothing
}

// readBase reads the newest history, or the newest before since, but for the one that is named.
func readBase(dir string, since time.Time, without string) (base, error) {
	b := base{digests: map[digest.Digest]bool{}}
	entries, err := os.ReadDir(filepath.Join(dir, historyDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b, fmt.Errorf("read the history of archives: %w", err)
	}
	name, newest := "", time.Time{}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), historyPrefix)
		if !ok || e.IsDir() || e.Name() == without {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return b, hint.New(fmt.Errorf("read the history of archives: %s has no time in its name", filepath.Join(dir, historyDir, e.Name())),
				"take that file away")
		}
		if at.After(newest) && (since.IsZero() || at.Before(since)) {
			name, newest = e.Name(), at
		}
	}
	if name == "" {
		return b, nil
	}
	if b.digests, err = readHistory(filepath.Join(dir, historyDir, name)); err != nil {
		return b, err
	}
	b.Base = &Base{History: name}
	records, err := readRecords(dir)
	for _, r := range records {
		if r.History == name {
			b.Archive, b.Sequence = r.Archive, r.Sequence
		}
	}
	return b, err
}

func readHistory(path string) (map[digest.Digest]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the history of archives: %w", err)
	}
	all := map[digest.Digest]bool{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		d := digest.Digest(strings.TrimSpace(lines.Text()))
		if d == "" {
			continue
		}
		if err := d.Validate(); err != nil {
			return nil, hint.New(fmt.Errorf("read the history of archives: %s:%d: %w", path, n, err),
				"take that file away, and use --since or --have if the far side lacks content then")
		}
		all[d] = true
	}
	return all, lines.Err()
}

func writeHistory(path string, all map[digest.Digest]bool) error {
	var b bytes.Buffer
	for _, d := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(d.String() + "\n")
	}
	return writeFile(path, b.Bytes())
}

// readRecords returns none where there are none.
func readRecords(dir string) (all []record, err error) {
	data, err := os.ReadFile(filepath.Join(dir, recordsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("read the list of archives of the workspace: %w", err),
			"take "+filepath.Join(dir, recordsFile)+" away")
	}
	return all, nil
}

// addRecord notes an archive, once, and forgets the one of a history file that is gone.
func addRecord(dir string, r record, gone string) error {
	all, err := readRecords(dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(o record) bool { return o.History == gone && gone != "" })
	if slices.ContainsFunc(all, func(o record) bool { return o.Archive == r.Archive }) {
		return nil
	}
	data, err := json.MarshalIndent(append(all, r), "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, recordsFile), append(data, '\n'))
}
