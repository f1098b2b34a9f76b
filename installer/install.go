package installer

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/relocate"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// PlanInstall looks at the host and plans an install. It returns *PreflightError when something is
// in the way; warnings alone are in the plan.
func PlanInstall(ctx context.Context, r Request, d Deps) (*Plan, error) {
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil && !isNotInstalled(err) {
		s.fault(err, "make that file readable")
	}
	if s.look() {
		s.lookAtServices(ctx)
		s.resume(false)
	}
	s.lookAtPrograms()
	s.checkTakeOver()
	s.wantTheirCertificate()
	s.want()
	s.refuseElsewhere()
	s.lookAtServer(ctx)
	if s.cfg != nil {
		s.lookAtNetwork(ctx)
		s.lookAtFirewall(ctx)
		s.lookAtMove(ctx)
	}
	s.lookAtClock()
	s.lookAtSELinux()
	if s.preflight(); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.install, s.bus.needed, plan.Loses = true, true, s.loses
	plan.result = Result{Address: s.cfg.Address(), QuayRoot: s.QuayRoot, CA: s.cfg.TLS.CA,
		InitUser: s.InitUser, InitPassword: s.InitPassword}
	if s.record == nil && s.unit != nil {
		s.record = s.guess()
	}
	b := &builder{site: s, Plan: plan, made: make(map[string]bool)}
	return plan, b.all(b.begin, b.serviceUser, b.directories, b.ahead, b.files, b.upgrade, b.executable,
		b.units, b.running)
}

// builder collects the steps of an install.
type builder struct {
	*site
	*Plan
	made  map[string]bool           // directories that a step makes
	trees map[string]*relocate.Tree // what moves, by where it was
}

func (b *builder) all(parts ...func() error) error {
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// begin adds what comes before the first change outside of quayRoot.
func (b *builder) begin() error {
	b.guard = &guard{bus: b.bus, journal: b.journal}
	if b.Request.Upgrade && !b.rollback {
		b.guard.Run = upgradeRun
	}
	b.add(b.guard)
	b.takeRoot()
	if err := b.rootDirs(); err != nil {
		return err
	}
	if len(b.moves) > 0 {
		b.add(&intent{Moves: b.moves})
	}
	if b.Request.TakeOver != nil {
		if err := b.retireTheirs(); err != nil {
			return err
		}
	}
	if b.User {
		// Before the units: undoing it may end the user's manager, if the user is not logged in.
		b.add(&linger{bus: b.bus, UID: b.Geteuid()})
	}
	return nil
}

// rootDirs adds quayRoot, and the journal in it.
func (b *builder) rootDirs() error {
	root, err := b.missing(b.QuayRoot, 0o755, b.admin, keep)
	if err != nil {
		return err
	}
	// The record has to tell whether the service's user, who lends its group later,
	// was there before.
	conf, err := b.missing(b.confDir(), 0o750, b.admin, keep|whole)
	if err != nil {
		return err
	}
	b.add(&begin{journal: b.journal, owner: b.admin, dirs: append(root, conf...)})
	if b.changer == nil {
		return nil
	}
	// The record that is there was the service's to write. It must not count when
	// this run is killed.
	text, err := b.record.text(b.site)
	b.add(b.rootFile(recordPath(b.QuayRoot), text, 0o600))
	return err
}

// begin starts the journal, in directories that it makes.
type begin struct {
	action
	journal *host.Journal
	owner   string
	dirs    []*host.Dir
}

func (s *begin) String() string { return s.dirs[len(s.dirs)-1].String() }

func (s *begin) Apply(ctx context.Context) (bool, error) {
	return s.journal.Start(ctx, s.owner, s.dirs...)
}

// Ways of making a directory.
type dirFlags int

const (
	keep  dirFlags = 1 << iota // leave an existing one as it is
	whole                      // undo removes what it holds, too
)

// directory adds steps for path and for those of its parents that are missing.
func (b *builder) directory(path string, mode fs.FileMode, owner string, flags dirFlags) error {
	dirs, err := b.missing(path, mode, owner, flags)
	for _, dir := range dirs {
		b.add(dir)
	}
	return err
}

// missing returns the steps for path and for those of its parents that are missing.
func (b *builder) missing(path string, mode fs.FileMode, owner string, flags dirFlags) (
	dirs []*host.Dir, err error) {
	missing, err := b.Host.Missing(path)
	if err != nil {
		return nil, err
	}
	for _, dir := range missing {
		if dir != path && !b.made[dir] {
			dirs = append(dirs, &host.Dir{Host: b.Host, Path: dir, Mode: b.mode(0o755, 0o700),
				Owner: b.admin, Keep: true})
		}
		b.made[dir] = true
	}
	return append(dirs, &host.Dir{Host: b.Host, Path: path, Mode: mode, Owner: owner,
		Keep: flags&keep != 0, Whole: flags&whole != 0}), nil
}

func (b *builder) mode(system, user fs.FileMode) fs.FileMode {
	if b.User {
		return user
	}
	return system
}

// sysusers is a file of sysusers.d(5): the service has a user, without a home and without a login.
const sysusers = `# Written by the appliance's installer: the user that its service runs as.
u ` + serviceUser + ` - "Mirror appliance"
`

func (b *builder) serviceUser() error {
	if b.User {
		return nil
	}
	if err := b.directory(filepath.Dir(sysusersFile), 0o755, b.admin, keep); err != nil {
		return err
	}
	b.add(b.rootFile(sysusersFile, []byte(sysusers), 0o644),
		&host.SystemUser{Host: b.Host, Name: serviceUser, File: sysusersFile})
	return nil
}

// serviceDir is a directory of the running service.
type serviceDir struct {
	path     string
	mode     fs.FileMode
	readOnly bool // the service does not write to it
	closed   bool // nor do other users read it
	content  bool // it has blobs or the database, which may lie among files of the user's
}

func (s *site) serviceDirs() []serviceDir {
	dirs := []serviceDir{{path: s.confDir(), mode: 0o750, readOnly: true, closed: true}}
	if !s.inBucket() {
		dirs = append(dirs, serviceDir{path: s.cfg.Storage, mode: 0o750, content: true})
	}
	if !s.onServer() {
		dirs = append(dirs, serviceDir{path: s.databaseDir(), mode: 0o700, content: true})
	}
	dirs = append(dirs, serviceDir{path: filepath.Dir(s.cfg.ControlSocket), mode: 0o700})
	if s.cfg.TLS.State != "" {
		dirs = append(dirs, serviceDir{path: s.cfg.TLS.State, mode: 0o700})
	}
	if s.cfg.TLS.CAKey != "" {
		// rootCA.pem is for every user to copy, so its directory is open; only root
		// can exchange it.
		dirs = append(dirs, serviceDir{path: filepath.Dir(s.cfg.TLS.CA), mode: 0o755, readOnly: true})
	}
	return dirs
}

func (b *builder) directories() error {
	for _, d := range b.serviceDirs() {
		owner, flags := b.owner, whole
		switch {
		case d.readOnly:
			if owner = b.admin; d.closed {
				owner = b.reader()
			}
			if !within(d.path, b.QuayRoot) {
				flags = keep // the user's own CA lies where it did
			}
		case !b.User:
			b.add(&host.Own{Host: b.Host, Path: d.path, User: b.owner}) // content from elsewhere
		}
		if d.content {
			flags = 0
		}
		if err := b.directory(d.path, d.mode, owner, flags); err != nil {
			return err
		}
	}
	if len(b.moves) == 0 && !b.onServer() { // else what comes to the new directories is a copy's, or other hosts use it
		b.add(b.leavings())
	}
	return nil
}

// leavings is what the daemon and its first users leave, also in directories that are the user's.
// Where a database exists, it belongs to that database.
type leavings struct {
	host     *host.Host
	Storage  string   `json:"storage"` // "": they are in a bucket
	Database string   `json:"database"`
	Rest     []string `json:"rest"` // files and directories beside the content
}

func (s *site) leavings() *leavings {
	l := &leavings{host: s.Host, Database: s.cfg.Database,
		Rest: []string{s.pullSecret(), Installation{QuayRoot: s.QuayRoot}.notShown(), s.cfg.ControlSocket}}
	if !s.inBucket() {
		l.Storage = s.cfg.Storage
	}
	if s.cfg.TLS.State != "" {
		l.Rest = append(l.Rest, filepath.Join(s.cfg.TLS.State, "certificates"))
	}
	return l
}

func (s *leavings) String() string { return "" }

func (s *leavings) Check(context.Context) (*host.Before, error) {
	if ok, err := s.host.Exists(s.Database); ok || err != nil {
		return nil, err
	}
	return &host.Before{}, nil
}

func (s *leavings) Apply(context.Context) (bool, error) { return false, nil }

func (s *leavings) Undo(ctx context.Context, _ *host.Before) (bool, error) {
	for _, path := range append(s.content(), s.Rest...) {
		if _, err := s.host.RemoveTree(ctx, path); err != nil {
			return true, err
		}
	}
	return true, nil
}

// content returns the paths of the store: a directory that the user has named is not removed as a
// whole.
func (s *leavings) content() (paths []string) {
	for _, name := range storageNames() {
		if s.Storage != "" { // of a bucket
			paths = append(paths, filepath.Join(s.Storage, name))
		}
	}
	dir := filepath.Dir(s.Database)
	names, _ := s.host.Names(dir) // without a backup, if it cannot be read
	for _, name := range databaseNames(s.Database, names) {
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths
}

// files adds the certificates and config.yaml. A file that exists keeps its content.
func (b *builder) files() error {
	conf := &host.File{Host: b.Host, Path: b.confPath(), Mode: 0o640, Owner: b.reader()}
	switch {
	case !b.kept:
		var err error
		if conf.Content, err = b.cfg.Marshal(); err != nil {
			return err
		}
	case b.changer != nil || !bytes.Equal(b.text, b.content):
		conf.Content = b.text // what has been looked at
	default:
		conf.AnyContent = true
	}
	b.add(b.certificateSteps()...)
	b.add(b.openOwn()...)
	b.add(conf)
	b.add(b.leafLinks()...)
	if secret := b.pullSecret(); b.changer != nil && b.has(secret) {
		b.add(&host.File{Host: b.Host, Path: secret, AnyContent: true, Mode: 0o600, Owner: b.admin})
	}
	if text := b.readdressedSecret(); text != nil && b.changer == nil {
		b.add(&host.File{Host: b.Host, Path: b.pullSecret(), Content: text, Mode: 0o600, Owner: b.reader()})
	}
	if b.certs.oldKey != "" { // after config.yaml, which names the new one
		b.add(&host.Remove{Host: b.Host, Path: b.certs.oldKey})
	}
	return nil
}

func (b *builder) executable() error {
	err := b.directory(filepath.Dir(b.binary), 0o755, b.admin, keep)
	if !b.rollback {
		b.add(b.copyOf(b.Binary, b.binary))
	}
	return err
}

func (b *builder) units() error {
	if err := b.directory(b.unitDir(), b.mode(0o755, 0o700), b.admin, keep); err != nil {
		return err
	}
	service := systemd.ServiceOptions{
		Binary: b.binary, Config: config.Path(b.QuayRoot), UserUnit: b.User, User: b.owner,
		DataDirs: []string{b.QuayRoot}, Ways: b.Host.Ways,
	}
	held := func(dir string) bool { // and no link leads out of it
		return slices.ContainsFunc(service.DataDirs, func(d string) bool {
			return within(dir, d) && within(b.Host.Real(dir), b.Host.Real(d))
		})
	}
	for _, d := range b.serviceDirs() {
		if !d.readOnly && !held(d.path) {
			service.DataDirs = append(service.DataDirs, d.path)
		}
	}
	for _, dir := range readDirs(b.cfg) {
		if !held(dir) {
			service.ReadDirs = append(service.ReadDirs, dir)
		}
	}
	b.add(b.rootFile(b.unitFile(systemd.Service), systemd.ServiceUnit(service), 0o644),
		b.rootFile(b.unitFile(systemd.Socket), systemd.SocketUnit(b.cfg.Port), 0o644))
	return nil
}

// rootFile is a file that the service does not change.
func (s *site) rootFile(path string, content []byte, mode fs.FileMode) *host.File {
	return &host.File{Host: s.Host, Path: path, Content: content, Mode: mode, Owner: s.admin}
}

// readFiles are the files that a configuration names; DIR/* are those of a directory.
func readFiles(cfg *config.Config) []string {
	files := []string{cfg.TLS.Certificate, cfg.TLS.Key, cfg.TLS.CA, cfg.TLS.CAKey, cfg.TLS.ACME.CA,
		cfg.TLS.ACME.KeyFile, cfg.StorageCredentials}
	if a, err := pgurl.Parse(cfg.DatabaseServer()); err == nil {
		files = append(append(files, cfg.SharedKey, a.Passfile, a.Key), a.Certificates...)
	}
	for _, u := range cfg.Upstreams {
		files = append(files, u.CA, u.AuthFile)
		if u.CertDir != "" {
			files = append(files, filepath.Join(u.CertDir, "*"))
		}
	}
	for _, run := range cfg.Sync {
		files = append(files, run.ImageSet, run.AuthFile)
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// readDirs are the directories of those files.
func readDirs(cfg *config.Config) (dirs []string) {
	for _, f := range readFiles(cfg) {
		if dir := filepath.Dir(f); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// running adds what makes the daemon run, and the users in it.
func (b *builder) running() error {
	if !b.Request.Upgrade {
		b.seeded = &seed{do: b.Seed, foresee: b.Foresee, journal: b.journal, in: Installation{
			Config: b.cfg, QuayRoot: b.QuayRoot, Owner: b.owner,
			InitUser: b.InitUser, InitPassword: b.InitPassword, Named: b.named, Generated: b.generated,
			Adopted: b.TakeOver != nil || b.record != nil && b.record.Puller == adoptedPuller,
		}}
	}
	if b.OpenFirewall && !b.User {
		for _, gap := range b.closed {
			b.add(gap)
		}
	}
	b.add(&reload{bus: b.bus})
	b.add(b.move()...)
	b.add(b.labelSteps()...) // of what was moved as well
	steps := []host.Step{&enable{bus: b.bus, host: b.Host, UnitDir: b.unitDir()}}
	last := &confirm{bus: b.bus, host: b.Host, paths: b.passing()}
	if b.Request.TakeOver != nil { // whose daemon takes pushes once it is started: it is not taken back later
		steps = append(steps, last)
	}
	begin := &start{bus: b.bus, host: b.Host, journal: b.journal, binary: b.binary,
		socket: b.unitFile(systemd.Socket), renamed: b.certs.renamed, unstarted: b.unstarted}
	if len(b.moves) > 0 {
		begin.Gate, begin.GateLink = b.gate(), b.gateLink()
	}
	steps = append(steps, begin,
		&health{bus: b.bus, host: b.Host, cfg: b.cfg, check: b.Health})
	steps = append(append(steps, b.closings()...), last)
	if b.Request.TakeOver != nil { // before the first users: its own stay
		steps = append(steps, &takeOver{do: b.Adopt, t: b.Request.TakeOver,
			in: Installation{Config: b.cfg, QuayRoot: b.QuayRoot, Owner: b.owner}})
	}
	if b.seeded != nil {
		steps = append(steps, b.seeded)
	}
	if len(b.moves) > 0 {
		steps = append(steps, &retirement{site: b.site})
	}
	b.add(steps...)
	return nil
}

// PlanPrepare plans the part of an install that needs neither systemd nor rights nor users: it is
// for a registry that another program runs, such as `appliance serve --quayRoot DIR`.
func PlanPrepare(ctx context.Context, r Request, d Deps) (*Plan, error) {
	r.User = true
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.look() {
		s.checkKilledRun()
		s.resume(true)
	}
	s.want()
	s.refuseElsewhere()
	s.lookAtClock()
	s.checkClock()
	switch {
	case s.cfg != nil:
		s.checkHostname(s.cfg.Hostname)
		s.checkContent()
		for _, p := range s.dirs.own {
			s.checkAlone(p, chooseEmpty)
		}
	case s.isQuay():
		s.checkMirrorRegistry()
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.install = true
	plan.result.Address = s.cfg.Address()
	if s.record == nil && s.kept {
		s.record = s.guess()
	}
	b := &builder{site: s, Plan: plan, made: make(map[string]bool)}
	return plan, b.all(b.rootDirs, b.directories, b.files)
}
