package mirror

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// Past is a run that has ended.
type Past struct {
	Started  time.Time `json:"started"`
	Registry string    `json:"registry"`
	Planned  int       `json:"planned"`
	Mirrored int       `json:"mirrored"`
	Failed   int       `json:"failed"`
	File     string    `json:"file"` // its report

	name string
}

// ReadReport reads the report of a run, which had at most so many bytes.
func ReadReport(file string, most int64) (*Report, error) {
	data, err := regular.ReadFileUpTo(file, most)
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	r := &Report{File: file}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("report %s: %w", file, err)
	}
	return r, nil
}

// History returns the runs whose reports a workspace has, the oldest first. dir is the directory of
// working-dir.
func History(dir string) ([]Past, error) {
	w := workspace{dir}
	names, err := w.List("logs")
	if err != nil {
		return nil, fmt.Errorf("read the workspace: %w", err)
	}
	var all []Past
	for _, name := range names {
		if !isReport(name) {
			continue
		}
		data, err := w.Read("logs/" + name)
		if err != nil {
			return nil, fmt.Errorf("read the workspace: %w", err)
		}
		var r struct {
			Started            time.Time
			Registry           string
			Planned            int
			Mirrored, Failures []struct{}
		}
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("report %s: %w", w.path("logs/"+name), err)
		}
		all = append(all, Past{r.Started, r.Registry, r.Planned, len(r.Mirrored), len(r.Failures),
			w.path("logs/" + name), name})
	}
	slices.SortFunc(all, func(a, b Past) int { return a.Started.Compare(b.Started) })
	return all, nil
}
