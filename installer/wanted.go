package installer

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// wanted is what an install is to lead to.
type wanted struct {
	cfg       *config.Config // nil: the one that exists cannot be used
	kept      bool           // cfg is the config.yaml that exists
	text      []byte         // the same, with what install keeps true in it
	certs     certificates
	given     *tlsgen.Own // the certificate of the request; nil: none
	named     bool        // the administrator was given
	puller    string      // for the record
	generated bool        // the password was not given
}

// want decides what is wanted, from the request and the facts.
func (s *site) want() {
	s.named = s.InitUser != "" || s.TakeOver != nil // whose administrators are others
	if s.InitUser == "" && s.record != nil {
		s.InitUser = s.record.InitUser
	}
	s.InitUser = cmp.Or(s.InitUser, "init")
	if s.InitPassword == "" {
		s.generated = true
		s.InitPassword = generatePassword()
	}
	if filepath.IsAbs(s.QuayRoot) {
		s.wantConfig()
		s.refuseServer()
	}
	s.wantGiven()
	if s.cfg != nil && s.refuseBucket(s.cfg.Storage) {
		s.cfg = nil // the looks at its directories would take the address for a path
	}
	if s.cfg != nil {
		s.lookAtPlaces()
		s.lookAtCertificates()
		s.wantCertificates()
	}
}

// wantConfig takes the config.yaml that is there, or makes one. Without a usable one, cfg stays
// nil.
func (s *site) wantConfig() {
	switch path := s.confPath(); {
	case s.isQuay():
		return // the check for a mirror-registry says so
	case s.contentIs == nil:
		cfg, err := config.Parse(path, s.content)
		if err != nil {
			s.fault(err, "correct the file, or move it away to have a new one written")
			return
		}
		s.cfg, s.kept, s.text = cfg, true, config.Follow(s.content, cfg)
		s.checkUnitNames()
		s.readdress()
		s.wantMove()
		s.refuseChanges()
	case notThere(s.contentIs):
		s.cfg = s.newConfig(s.QuayStorage, s.SqliteStorage)
		s.refuseSeparation()
	default:
		s.fault(fmt.Errorf("read the existing configuration: %w", s.contentIs), "make that file readable")
		return
	}
	s.checkRoots()
}

// refuseServer refuses a database in PostgreSQL: the steps copy and move a file.
func (s *site) refuseServer() {
	if s.cfg == nil {
		return
	}
	if err := s.cfg.NeedsFile("an install or upgrade by this command", ""); err != nil {
		s.problem(err.Error(), "to upgrade, stop the service, run pg_dump, put the new program in the place of the old one and start the "+
			"service, which migrates the database: see appliance docs database")
		s.cfg = nil
	}
}

// newConfig returns the configuration of a new install. The record has the directories that are not
// given.
func (s *site) newConfig(storage, database string) *config.Config {
	cfg := config.Default(s.QuayRoot)
	cfg.Hostname = normalizeHostname(cmp.Or(s.Hostname, s.Target))
	if name, err := os.Hostname(); cfg.Hostname == "" && err == nil { // else it is refused as none
		cfg.Hostname = normalizeHostname(name)
	}
	cfg.Port = cmp.Or(s.Port, cfg.Port)
	cfg.Listen = fmt.Sprintf(":%d", cfg.Port)
	if s.record != nil && s.record.Storage != "" {
		cfg.Storage = s.record.Storage
		cfg.Database = filepath.Join(s.record.Database, cmp.Or(s.record.File, databaseName))
	}
	cfg.AnonymousPull = s.publicPatterns()
	cfg.Storage = cmp.Or(storage, cfg.Storage)
	if database != "" {
		cfg.Database = filepath.Join(database, databaseName)
	}
	return cfg
}

// refuseBucket refuses a storage in S3, and reports whether it is one: the steps make directories.
func (s *site) refuseBucket(storage string) bool {
	if !s3url.Is(storage) {
		return false
	}
	s.problem("the installer does not keep images in S3 yet: "+storage,
		"install with a directory, or run `appliance serve` with a configuration of your own whose `storage:` is that address; "+
			"to upgrade, stop the service, put the new program in the place of the old one and start the service")
	return true
}

func normalizeHostname(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// readdress gives the configuration the hostname and the port that an upgrade asks for.
func (s *site) readdress() {
	hostname, port := cmp.Or(normalizeHostname(s.Hostname), s.cfg.Hostname), cmp.Or(s.Port, s.cfg.Port)
	if !s.Upgrade || hostname == s.cfg.Hostname && port == s.cfg.Port {
		return
	}
	text, cfg, ok := config.Readdress(s.content, s.cfg, hostname, port)
	if !ok {
		s.problem(fmt.Sprintf("hostname or port in %s cannot be changed", s.confPath()),
			"change them there, each on one line, then run the command again without --quayHostname")
		return
	}
	s.cfg, s.text = cfg, config.Follow(text, cfg)
}

// refuseChanges compares the request with a configuration that exists: it is the user's.
func (s *site) refuseChanges() {
	differs := func(flag, asked, have string) {
		s.problem(fmt.Sprintf("%s says %s, but %s says %s", flag, asked, s.confPath(), have),
			s.remedyOf(flag, have))
	}
	if asked := normalizeHostname(s.Hostname); asked != "" && asked != s.cfg.Hostname {
		differs("--quayHostname", asked, s.cfg.Hostname)
	}
	if s.Port != 0 && s.Port != s.cfg.Port {
		differs("--quayHostname", fmt.Sprintf("port %d", s.Port), fmt.Sprintf("port %d", s.cfg.Port))
	}
	if s.QuayStorage != "" && s.QuayStorage != s.cfg.Storage {
		differs("--quayStorage", s.QuayStorage, s.cfg.Storage)
	}
	if dir := s.databaseDir(); s.SqliteStorage != "" && s.SqliteStorage != dir {
		differs("--sqliteStorage", s.SqliteStorage, dir)
	}
}

func (s *site) remedyOf(flag, have string) string {
	return "leave it at " + have + ", or change it: appliance upgrade " + flag
}

// refuseSeparation compares the request with the place where an uninstall left the images: their
// database is of no use without them. (storageContent refuses the other way round.)
func (s *site) refuseSeparation() {
	if s.record != nil && s.QuayStorage != "" && s.QuayStorage != s.record.Storage &&
		s.has(filepath.Join(s.record.Storage, "sha256")) {
		s.problem(fmt.Sprintf("--quayStorage says %s, but the content that was kept lies in %s",
			s.QuayStorage, s.record.Storage),
			"leave out --quayStorage, or remove the content first: appliance uninstall")
	}
}
