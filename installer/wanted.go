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
	}
	s.wantGiven()
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
		s.refuseDirectories()
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

// refuseElsewhere refuses to begin with a database in PostgreSQL or images in S3: what install makes there, such as
// users, it could not take back when it fails.
func (s *site) refuseElsewhere() {
	if s.cfg == nil || s.Upgrade || (s.unit != nil || s.recorded) && s.TakeOver == nil {
		return
	}
	if names := elsewhere(s.cfg); len(names) > 0 {
		s.problem(fmt.Sprintf("%s names %s, and the appliance is not installed yet", s.confPath(), strings.Join(names, " and ")),
			"move that file away and install with directories of this host, then bring the content there: appliance docs several")
		s.cfg = nil
	}
}

// elsewhere names the halves of a store that are not in directories of this host.
func elsewhere(cfg *config.Config) (names []string) {
	if cfg.DatabaseServer() != "" {
		names = append(names, "the database "+cfg.DatabaseName())
	}
	if s3url.Is(cfg.Storage) {
		names = append(names, "the bucket "+cfg.Storage)
	}
	return names
}

// onServer reports whether the database is in PostgreSQL, and inBucket whether the images are in S3.
func (s *site) onServer() bool { return s.cfg.DatabaseServer() != "" }
func (s *site) inBucket() bool { return s3url.Is(s.cfg.Storage) }

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
	if r := s.record; r != nil {
		cfg.Storage = cmp.Or(r.Storage, cfg.Storage)
		if r.Database != "" {
			cfg.Database = filepath.Join(r.Database, cmp.Or(r.File, databaseName))
		}
	}
	cfg.AnonymousPull = s.publicPatterns()
	cfg.Storage = cmp.Or(storage, cfg.Storage)
	if database != "" {
		cfg.Database = filepath.Join(database, databaseName)
	}
	return cfg
}

// refuseBucket refuses a flag that names a bucket: an install begins with directories.
func (s *site) refuseBucket(flag, bucket string) {
	s.problem(fmt.Sprintf("%s takes a directory, and %s is a bucket", flag, bucket),
		"install with a directory, then let `storage:` of config.yaml name the bucket, and bring the content there: appliance docs operate")
}

// refuseDirectories refuses directories for what is not on this host.
func (s *site) refuseDirectories() {
	const remedy = "leave it out; to bring the content into directories of this host: appliance store copy, see appliance docs operate"
	if s.QuayStorage != "" && s.inBucket() {
		s.problem(fmt.Sprintf("--quayStorage says %s, and the images are in the bucket %s", s.QuayStorage, s.cfg.Storage), remedy)
		s.QuayStorage = ""
	}
	if s.SqliteStorage != "" && s.onServer() {
		s.problem(fmt.Sprintf("--sqliteStorage says %s, and the database is %s", s.SqliteStorage, s.cfg.DatabaseName()), remedy)
		s.SqliteStorage = ""
	}
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
