package installer

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// exchanges reports whether the program to install is another one than the installed one.
func (s *site) exchanges() (bool, error) {
	have, err := s.Host.StatTarget(s.binary)
	if s.unit == nil || notThere(err) {
		return false, nil // an install
	}
	if err != nil {
		return false, fmt.Errorf("read the installed program: %w", err)
	}
	info, err := os.Stat(s.Binary)
	if err != nil || info.Size() != have.Size {
		return err == nil, err
	}
	installed, err := s.Host.Sum(s.binary)
	if err != nil {
		return false, fmt.Errorf("read the installed program: %w", err)
	}
	ours, err := host.Local().Sum(s.Binary)
	return err == nil && ours != installed, err
}

// need is the space that a part of an upgrade takes, at most and for a while.
type need struct {
	place place
	bytes uint64
	what  string
}

// upgradeNeeds returns the needs of an upgrade, or a rollback, that exchanges the program.
func (s *site) upgradeNeeds() []need {
	sizeOf := func(path string) uint64 {
		info, err := s.Host.StatTarget(path)
		if err != nil {
			return 0
		}
		return uint64(max(info.Size, 0))
	}
	var next uint64
	if info, err := os.Stat(s.Binary); err == nil {
		next = uint64(info.Size())
	}
	have, previous := sizeOf(s.binary), sizeOf(s.previous())
	// Beside the two that are there in the end, the one that takes back and one that is being written.
	programs := need{s.dirs.bin, 2*next + have, "copies of the program"}
	if s.rollback {
		programs.bytes = have + max(have, next)
	}
	programs.bytes -= min(programs.bytes, sizeOf(s.recoverer())) // of a run that was killed
	needs := []need{programs, {s.dirs.root, have + previous, "those for the way back"}}
	db := cmp.Or(s.databaseBefore, s.cfg.Database)
	if schema, err := schemaOf(s.Host, db); err == nil && schema > 0 && schema < s.Schema && !s.rollback {
		needs = append(needs, need{s.dirs.database, sizeOf(db) + sizeOf(db+"-wal"), "a copy of the database before it is migrated"})
	}
	return needs
}

// checkUpgradeSpace checks that an upgrade that exchanges the program has the space that it takes.
func (s *site) checkUpgradeSpace() {
	if other, err := s.exchanges(); !other || err != nil || len(s.moves) > 0 { // see Plan.Splits
		return // planning the steps tells an error
	}
	disks := make(map[uint64][]need)
	for _, n := range s.upgradeNeeds() {
		id := deviceOf(s.Host, n.place.dir)
		disks[id] = append(disks[id], n)
	}
	for _, id := range slices.Sorted(maps.Keys(disks)) {
		needs := disks[id]
		var sum uint64
		var whats []string
		for _, n := range needs {
			if sum += n.bytes; n.bytes > 0 {
				whats = append(whats, n.what)
			}
		}
		p := needs[0].place
		if free := p.fs.Bavail * uint64(p.fs.Bsize); p.fs.Bsize > 0 && free < sum {
			s.problem(fmt.Sprintf("%s %s has %s free, and this takes %s there for a while: %s", p.name, p.path,
				humanize.Bytes(free), humanize.Bytes(sum), strings.Join(whats, ", ")),
				"make room on that file system; nothing has been changed")
		}
	}
}
