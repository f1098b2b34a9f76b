package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// Kinds returns an empty step for each name that a journal may have for it. What is not a value of
// the step, such as its Host, is filled in.
type Kinds func() map[string]Step

// Entry is a step that was applied, and what it found.
type Entry struct {
	Step   Step
	Before *Before
}

type entryJSON struct {
	Kind   string          `json:"step"`
	Step   json.RawMessage `json:"values"`
	Before *Before         `json:"before"`
}

// Encode returns an entry as one line of JSON, nil if its step has no name: there is nothing of it
// to undo.
func (k Kinds) Encode(e Entry) (json.RawMessage, error) {
	for kind, step := range k() {
		if reflect.TypeOf(step) != reflect.TypeOf(e.Step) {
			continue
		}
		values, err := json.Marshal(e.Step)
		if err != nil {
			return nil, err
		}
		return json.Marshal(entryJSON{kind, values, e.Before})
	}
	return nil, nil
}

// Decode returns the entry of such a line.
func (k Kinds) Decode(line json.RawMessage) (Entry, error) {
	var e entryJSON
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, err
	}
	step := k()[e.Kind]
	if step == nil || e.Before == nil {
		return Entry{}, fmt.Errorf("there is no step %q", e.Kind)
	}
	return Entry{step, e.Before}, json.Unmarshal(e.Step, step)
}

// Journal writes to disk what a step is about to change, before it does: another process can undo a
// run that was killed. It is a directory of the entries and of copies of replaced files.
type Journal struct {
	Host  *Host
	Dir   string
	Kinds Kinds

	Entries []Entry
	// Done says that there is nothing to undo: the run that wrote the entries has
	// ended, see Finish.
	Done bool

	file  *os.File // nil before Start
	valid int64    // length of the lines on disk
}

const (
	journalName = "journal"
	doneLine    = "done\n"
)

// Load reads what another run has left. Its last line, if it was not written to the end, is left
// out: its step has not begun.
func (j *Journal) Load() error {
	text, err := j.Host.ReadFile(filepath.Join(j.Dir, journalName))
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what an interrupted run has left: %w", err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		j.valid += int64(len(line))
		if string(line) == doneLine {
			j.Done = true
			continue
		}
		e, err := j.Kinds.Decode(line)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(j.Dir, journalName), err)
		}
		j.Entries = append(j.Entries, e)
	}
	return nil
}

// Start makes the journal, with the entries that came before it, and those of above that are
// missing: the directories above it, outermost first. It reports whether it made one. All of it
// comes into being at once, so that a run that is killed has a journal of what it made.
func (j *Journal) Start(ctx context.Context, owner string, above ...*Dir) (made bool, err error) {
	if j.valid == 0 { // nothing was read from what is there
		if _, err := j.Host.removeAll(ctx, j.Dir); err != nil {
			return false, err
		}
		if made, err = j.create(ctx, append(above, &Dir{Host: j.Host, Path: j.Dir, Mode: 0o700,
			Owner: owner})); err != nil {
			return made, err
		}
	}
	root, err := j.Host.OpenRoot(j.Dir)
	if err != nil {
		return made, err
	}
	defer root.Close()
	j.file, err = root.OpenFile(journalName, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return made, err
	}
	if err := durable.Lock(j.file, durable.Exclusive); errors.Is(err, durable.ErrLocked) {
		return made, errors.Join(errHeld, j.file.Close())
	}
	return made, j.file.Truncate(j.valid)
}

var errHeld = hint.New(errors.New("what another run has left is being taken back"), "wait a moment, then run the command again")

// Claim loads a journal to undo or to finish it. It reports false while another process, the one that
// writes it or one that has claimed it, has not ended.
func (j *Journal) Claim() (bool, error) {
	root, err := j.Host.OpenRoot(j.Dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if j.file, err = root.OpenFile(journalName, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return false, err
	}
	err = durable.Lock(j.file, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		j.file.Close()
		j.file = nil
		return false, nil
	}
	// Also on a file system without locks. The other process may have written more meanwhile.
	j.Entries, j.Done, j.valid = nil, false, 0
	return true, j.Load()
}

// create makes those of dirs that are missing, the last of which is the journal's.
func (j *Journal) create(ctx context.Context, dirs []*Dir) (made bool, err error) {
	missing := dirs[:0:0]
	for _, d := range dirs {
		before, err := d.Check(ctx)
		if err != nil {
			return false, err
		}
		if before == nil || before.Is != "" {
			continue
		}
		if missing = append(missing, d); d.Path != j.Dir {
			j.Entries = append(j.Entries, Entry{d, before})
		}
	}
	var text []byte
	for _, e := range j.Entries { // those that came before, too
		line, err := j.Kinds.Encode(e)
		if err != nil {
			return false, err
		}
		if line != nil {
			text = append(append(text, line...), '\n')
		}
	}
	j.valid = int64(len(text))
	return len(missing) > 1, j.Host.replace(missing[0].Path, func(in *os.Root, name string) error {
		return makeAll(in, name, missing, text)
	})
}

// makeAll makes the first of dirs as name, the others in it, and the journal in the last one.
func makeAll(in *os.Root, name string, dirs []*Dir, journal []byte) error {
	if err := mkdirIn(in, name, dirs[0].Mode, dirs[0].owner); err != nil {
		return err
	}
	made, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	defer made.Close()
	if dirs = dirs[1:]; len(dirs) > 0 {
		err = makeAll(made, filepath.Base(dirs[0].Path), dirs, journal)
	} else {
		var f *os.File
		if f, err = made.OpenFile(journalName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_, err = f.Write(journal)
			err = durable.Finish(f, err)
		}
	}
	return errors.Join(err, durable.SyncRoot(made))
}

// Do applies a step that has something to do, after what it changes was written down.
func (j *Journal) Do(ctx context.Context, s Step) (changed bool, err error) {
	before, err := s.Check(ctx)
	if before == nil || err != nil {
		return false, err
	}
	if before.keep {
		if err := j.keep(before); err != nil {
			return false, fmt.Errorf("keep %s: %w", before.Path, err)
		}
	}
	e := Entry{s, before}
	j.Entries = append(j.Entries, e)
	if j.file != nil {
		if err := j.write(e); err != nil {
			return false, err
		}
	}
	return s.Apply(ctx)
}

// keep copies the content of a file that a step is about to replace.
func (j *Journal) keep(b *Before) error {
	f, err := j.Host.openFile(b.Path, false)
	if err != nil {
		return err
	}
	defer f.Close()
	b.Copy = filepath.Join(j.Dir, fmt.Sprint(len(j.Entries)))
	if err := j.Host.Write(b.Copy, f, 0o600, asIs()); err != nil {
		return err
	}
	b.SHA256, err = j.Host.Sum(b.Copy)
	return err
}

func (j *Journal) write(e Entry) error {
	line, err := j.Kinds.Encode(e)
	if line == nil || err != nil {
		return err
	}
	return j.append(append(line, '\n'))
}

func (j *Journal) append(line []byte) error {
	if _, err := j.file.Write(line); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return j.file.Sync()
}

// Undo takes the entries back, the last one first, also after one that fails.
func (j *Journal) Undo(ctx context.Context) error {
	var errs []error
	for i := len(j.Entries) - 1; i >= 0 && !j.Done; i-- {
		e := j.Entries[i]
		if _, err := e.Step.Undo(ctx, e.Before); err != nil {
			errs = append(errs, fmt.Errorf("take back %q: %w", e.Step, err))
		}
	}
	return errors.Join(errs...)
}

// Finish writes down that the run is complete. From then on another process does not undo it.
func (j *Journal) Finish() error {
	if j.file == nil {
		return nil
	}
	return j.append([]byte(doneLine))
}

// Close leaves the journal to another process, as far as it is on disk.
func (j *Journal) Close() {
	j.file.Close() // synced, or nil
	j.file = nil
}

// Discard removes the journal, its lines first: without them the copies mean nothing.
func (j *Journal) Discard(ctx context.Context) error {
	if j.Dir == "" {
		return nil
	}
	j.Close()
	if _, err := j.Host.Remove(filepath.Join(j.Dir, journalName)); err != nil {
		return err
	}
	_, err := j.Host.removeAll(ctx, j.Dir)
	return err
}
