package installer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// record is quay-config/install.json: what installs did, in their order, with what they found. An
// uninstall takes it back.
type record struct {
	Version   int               `json:"version"`   // of this format
	Appliance string            `json:"appliance"` // version of the program that wrote it
	Owner     string            `json:"owner,omitempty"`
	InitUser  string            `json:"initUser,omitempty"` // the first administrator
	Puller    string            `json:"puller,omitempty"`   // adoptedPuller; empty: install's own
	Storage   string            `json:"storage"`
	Database  string            `json:"database"`           // the directory
	File      string            `json:"databaseFile"`       // its name in that directory
	Replaced  *replaced         `json:"replaced,omitempty"` // by the last upgrade
	Leaves    []relocation      `json:"leaves,omitempty"`   // of moves that are complete: what is left at the old places
	Lines     []json.RawMessage `json:"steps"`

	entries []host.Entry
}

const recordVersion = 2

// adoptedPuller is a user puller that a mirror-registry had.
const adoptedPuller = "adopted"

// version1 is the record of earlier installs, which told what an uninstall could not see.
type version1 struct {
	Created []string `json:"createdDirectories"` // were not there before
	Before  []struct {
		Path string      `json:"path"`
		Mode fs.FileMode `json:"mode"`
		UID  int         `json:"uid"`
		GID  int         `json:"gid"`
	} `json:"directoriesBefore"` // of the user's, which were given to the service
	User      bool     `json:"createdUser"`      // the system user was not there before
	Lingering bool     `json:"enabledLingering"` // was off before
	Binary    string   `json:"binary"`
	Files     []string `json:"createdFiles"` // certificates and keys; the earliest records have none
}

func recordPath(quayRoot string) string {
	return filepath.Join(quayRoot, "quay-config", "install.json")
}

// lasting is a step whose result stays until an uninstall takes it back.
type lasting interface {
	host.Step
	Taken() string // what Undo does, as an imperative
}

// kinds are the steps that a journal or a record can name.
func (s *site) kinds() map[string]host.Step {
	h, bus := s.Host, s.bus
	return map[string]host.Step{
		"directory": &host.Dir{Host: h, Owner: s.owner},
		"file":      &host.File{Host: h},
		"link":      &host.Link{Host: h},
		"remove":    &host.Remove{Host: h},
		"owner":     &host.Own{Host: h},
		"take":      &host.Take{Host: h},
		"user":      &host.SystemUser{Host: h},
		"leavings":  &leavings{host: h},
		"restart":   &guard{bus: bus},
		"retire":    &retire{bus: bus, host: h},
		"linger":    &linger{bus: bus},
		"enable":    &enable{bus: bus, host: h},
		"start":     &start{bus: bus, host: h},
		"database":  &database{host: h},
		"server":    &server{},
		"firewall":  &openPort{host: h},
		"close":     &closePort{Opened: openPort{host: h}},
		"intent":    &intent{},
		"copy":      &copyAhead{bus: bus, host: h},
		"move":      &move{bus: bus, host: h},
		"label":     &label{host: h, read: s.Label},
		"rewind":    &rewind{host: h},
		"open":      &opened{host.File{Host: h}},
		"anchor":    &anchor{File: host.File{Host: h}, host: h},
	}
}

// readRecord returns nil when there is none.
func (s *site) readRecord() (*record, error) {
	r, content, err := readRecord(s.Host, s.QuayRoot)
	if r == nil || err != nil {
		return nil, err
	}
	if r.Version == 1 {
		var old version1
		if err := json.Unmarshal(content, &old); err != nil {
			return nil, fmt.Errorf("%s: %w", recordPath(s.QuayRoot), err)
		}
		r.entries = s.installOf(old)
		return r, nil
	}
	for _, line := range r.Lines {
		e, err := host.Kinds(s.kinds).Decode(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", recordPath(s.QuayRoot), err)
		}
		if _, ok := e.Step.(lasting); !ok {
			return nil, fmt.Errorf("%s: %T is not a step to record", recordPath(s.QuayRoot), e.Step)
		}
		if f, ok := e.Step.(*host.File); ok && f.Source != "" && !strings.HasSuffix(f.Path, previousSuffix) {
			f.Path = s.binary // the record tells that it was installed, and not where
		}
		r.entries = append(r.entries, e)
	}
	return r, s.disown(r)
}

// disown has root in the place of a user that an uninstall deletes, where an earlier version found
// that user to be the owner before the install.
func (s *site) disown(r *record) error {
	deleted := func(e host.Entry) bool { _, ok := e.Step.(*host.SystemUser); return ok }
	if !slices.ContainsFunc(r.entries, deleted) {
		return nil
	}
	user, err := s.Host.User(s.owner)
	if notThere(err) {
		return nil
	}
	root, err2 := s.Host.User(s.admin)
	for _, e := range r.entries {
		if e.Before.Owner == user {
			e.Before.Owner = root
		}
	}
	return errors.Join(err, err2)
}

// readRecord reads the record without its steps, nil when there is none.
func readRecord(h *host.Host, quayRoot string) (*record, []byte, error) {
	path := recordPath(quayRoot)
	content, err := h.ReadFile(path)
	if notThere(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read what an earlier install recorded: %w", err)
	}
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != 1 && r.Version != recordVersion {
		return nil, nil, fmt.Errorf("%s was written by another version of the appliance (%d, this one "+
			"knows %d)", path, r.Version, recordVersion)
	}
	return &r, content, nil
}

// installOf returns the steps of an install that an earlier record describes.
func (s *site) installOf(old version1) (entries []host.Entry) {
	absent := new(host.Before)
	add := func(step host.Step) { entries = append(entries, host.Entry{Step: step, Before: absent}) }
	names := []string{"quay-config", "quay-rootCA", "run", "tls-state"}
	whole := func(dir string) bool {
		return filepath.Dir(dir) == s.QuayRoot && slices.Contains(names, filepath.Base(dir))
	}
	slices.Sort(old.Created) // a directory comes before what is in it
	for _, dir := range old.Created {
		add(&host.Dir{Host: s.Host, Path: dir, Whole: whole(dir)})
	}
	for _, d := range old.Before {
		entries = append(entries, host.Entry{Step: &host.Dir{Host: s.Host, Path: d.Path, Owner: s.owner},
			Before: &host.Before{Is: "directory", Mode: d.Mode, Owner: host.Owner{UID: d.UID, GID: d.GID}}})
	}
	if !s.User {
		add(&host.File{Host: s.Host, Path: sysusersFile})
	}
	if old.User {
		add(&host.SystemUser{Host: s.Host, Name: serviceUser})
	}
	if old.Lingering {
		add(&linger{bus: s.bus, UID: s.Geteuid()})
	}
	if old.Files == nil {
		old.Files = s.usualFiles()
	}
	for _, path := range append(old.Files, config.Path(s.QuayRoot)) {
		if within(path, s.QuayRoot) {
			add(&host.File{Host: s.Host, Path: path})
		}
	}
	if old.Binary != "" {
		add(&host.File{Host: s.Host, Path: s.binary, Source: s.binary})
	}
	add(&host.File{Host: s.Host, Path: s.unitFile(systemd.Service)})
	add(&host.File{Host: s.Host, Path: s.unitFile(systemd.Socket)})
	add(&enable{bus: s.bus, host: s.Host, UnitDir: s.unitDir()})
	add(&start{bus: s.bus})
	return entries
}

// with returns the record with what a run did. Of what it has already, the state before the first
// install counts, and what the last one wrote.
func (r *record) with(entries []host.Entry) *record {
	all := &record{}
	if r != nil {
		*all = *r
		all.entries = slices.Clone(r.entries)
	}
	for _, e := range entries {
		if l, ok := e.Step.(*leavings); ok && all.Storage == "" {
			all.Storage = l.Storage
			all.Database, all.File = filepath.Dir(l.Database), filepath.Base(l.Database)
		}
		step, ok := e.Step.(lasting)
		if own, given := e.Step.(*host.Own); given { // by then, its Dir finds the new owner
			step, ok = &host.Dir{Host: own.Host, Path: own.Path, Owner: own.User}, true
		}
		if !ok {
			continue
		}
		if all.update(step) {
			continue
		}
		before := e.Before
		switch step.(type) {
		case *host.Dir, *host.SystemUser: // whose group may have been there
		default:
			before = &host.Before{} // an uninstall removes what replaced something, too
		}
		all.entries = append(all.entries, host.Entry{Step: step, Before: before})
	}
	return all
}

// update replaces a step by a later one about the same thing, and reports whether the record has
// it. The hash of what was written stays, where the later one leaves the content alone.
func (r *record) update(step lasting) bool {
	dir, isDir := step.(*host.Dir)
	i := slices.IndexFunc(r.entries, func(e host.Entry) bool {
		if have, ok := e.Step.(*host.Dir); ok && isDir {
			return have.Path == dir.Path
		}
		return e.Step.(lasting).Taken() == step.Taken()
	})
	if i < 0 {
		return false
	}
	switch step := step.(type) {
	case *label: // the recorded one has the type from before the first install
	case *host.File:
		if !step.AnyContent {
			r.entries[i].Step = step
		}
	default:
		r.entries[i].Step = step
	}
	return true
}

// moved has the record tell of moves that are complete.
func (r *record) moved(moves []relocation) {
	for _, m := range moves {
		if m.File != "" {
			r.Database = m.To
		} else {
			r.Storage = m.To
		}
	}
	r.Leaves = append(r.Leaves, moves...)
}

// hasFile reports whether an install has made a file or a link.
func (r *record) hasFile(path string) bool {
	return slices.ContainsFunc(r.entries, func(e host.Entry) bool {
		switch step := e.Step.(type) {
		case *host.File:
			return step.Path == path
		case *host.Link:
			return step.Path == path
		}
		return false
	})
}

// writeRecord completes the record with what a run did, when there is something to record.
func (s *site) writeRecord(ctx context.Context, steps []host.Step) error {
	r := s.record.with(slices.DeleteFunc(slices.Clone(s.journal.Entries), s.isPassing))
	for _, step := range steps { // with the hashes of what was right already
		switch step := step.(type) {
		case lasting:
			r.update(step)
		case *closePort: // which is over
			r.entries = slices.DeleteFunc(r.entries, step.closes)
		}
	}
	if len(r.entries) == 0 {
		return nil
	}
	text, err := r.text(s)
	if err != nil {
		return err
	}
	return s.replaceRecord(ctx, text)
}

func (s *site) replaceRecord(ctx context.Context, text []byte) error {
	file := s.rootFile(recordPath(s.QuayRoot), text, 0o600)
	before, err := file.Check(ctx)
	if before != nil && err == nil {
		_, err = file.Apply(ctx)
	}
	if err != nil {
		return fmt.Errorf("record the install: %w", err)
	}
	return nil
}

func (r *record) text(s *site) ([]byte, error) {
	r.Version, r.Appliance, r.Owner = recordVersion, s.Version, s.owner
	r.InitUser, r.Puller = cmp.Or(r.InitUser, s.InitUser), cmp.Or(r.Puller, s.puller)
	if !s.inBucket() { // else what was here before stays known: an uninstall removes it
		r.Storage = s.cfg.Storage
	}
	if !s.onServer() {
		r.Database, r.File = s.databaseDir(), filepath.Base(s.cfg.Database)
	}
	r.Lines = nil
	for _, e := range r.entries {
		line, err := host.Kinds(s.kinds).Encode(e)
		if err != nil {
			return nil, err
		}
		r.Lines = append(r.Lines, line)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}
