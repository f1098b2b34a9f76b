package installer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// RetiredSuffix is added to the names of the units of a mirror-registry that an install has replaced:
// ours has the alias quay-app.service.
const RetiredSuffix = ".mirror-registry"

// retired are the units of a mirror-registry 2.x, in the order in which they stop.
func retired() []string {
	return []string{"quay-app.service", "quay-redis.service", "quay-pod.service"}
}

// quadletService is the unit that systemd makes from the file of a mirror-registry 3.
const quadletService = "quay.service"

// UnitDirs returns the directories with an administrator's units and with those of the caller.
func UnitDirs(d Deps) []string {
	d, err := d.complete()
	if err != nil || d.Home == "" {
		return []string{d.unitDir(false)}
	}
	return []string{d.unitDir(false), d.unitDir(true)}
}

// TakeOver is a mirror-registry whose place an install takes.
type TakeOver struct {
	Quay     adopt.QuayInstall
	Public   []string           // repositories that are pulled without a login
	Report   func(adopt.Report) // of what was taken over
	Progress func(adopt.Report) // while it is
}

// theirs are the certificates of a mirror-registry.
type theirs struct {
	authority   *tlsgen.CA // nil: there is none
	ca, caKey   []byte
	leaf, key   []byte
	pair        tls.Certificate
	pairErr     error
	leafFile    string
	leafKeyFile string
}

func (s *site) theirCertificates() (t theirs, err error) {
	q := s.TakeOver.Quay
	certificates := filepath.Join(q.Root, "quay-config")
	if q.Version3 {
		certificates = q.Root
	}
	t.leafFile, t.leafKeyFile = filepath.Join(certificates, "ssl.cert"), filepath.Join(certificates, "ssl.key")
	files := map[string]*[]byte{t.leafFile: &t.leaf, t.leafKeyFile: &t.key}
	if !q.Version3 {
		files[filepath.Join(q.Root, "quay-rootCA", "rootCA.pem")] = &t.ca
		files[filepath.Join(q.Root, "quay-rootCA", "rootCA.key")] = &t.caKey
	}
	for file, to := range files {
		if *to, err = s.Host.ReadFile(file); err != nil && !notThere(err) {
			return t, fmt.Errorf("read the certificates of the mirror-registry: %w", err)
		}
	}
	t.pair, t.pairErr = tls.X509KeyPair(t.leaf, t.key)
	if q.Version3 && t.pairErr == nil && signsItself(t.pair.Leaf) {
		t.ca, t.caKey = t.leaf, t.key
	}
	if t.ca == nil || t.caKey == nil {
		return t, nil
	}
	if t.authority, err = tlsgen.ParseCA(t.ca, t.caKey); err != nil {
		err = fmt.Errorf("the CA of the mirror-registry: %w", err)
	}
	return t, err
}

// signsItself reports whether a certificate is one that a mirror-registry 3 makes for itself, which
// clients trust and which may sign others: they go on trusting what is signed by it.
func signsItself(c *x509.Certificate) bool {
	return c.IsCA && c.KeyUsage&x509.KeyUsageCertSign != 0 && c.CheckSignatureFrom(c) == nil
}

// signed reports whether the CA has signed the certificate.
func (t theirs) signed() bool {
	return t.authority != nil && t.pairErr == nil && t.authority.Signed(t.pair.Leaf)
}

// wantTheirCA takes the CA of the mirror-registry that is replaced, and its certificate, so that no
// client has to be given another. It returns nil if there is none.
func (s *site) wantTheirCA() (*tlsgen.CA, error) {
	if s.TakeOver == nil {
		return nil, nil
	}
	t, err := s.theirCertificates()
	if t.authority == nil || err != nil {
		return nil, err
	}
	s.certs.caPEM, s.certs.caKey = t.ca, t.caKey
	if t.signed() && t.pair.Leaf.VerifyHostname(s.cfg.Hostname) == nil && s.now.Before(t.pair.Leaf.NotAfter) {
		s.certs.leafPEM, s.certs.leafKey = t.leaf, t.key
	}
	return t.authority, nil
}

// wantTheirCertificate has the certificate of a mirror-registry that its CA has not signed be as if it
// were given by flags: it is the user's own.
func (s *site) wantTheirCertificate() {
	if s.TakeOver == nil || s.SSLCert != "" || s.SSLKey != "" {
		return
	}
	if t, err := s.theirCertificates(); err == nil && t.pairErr == nil && !t.signed() { // otherwise one is made
		s.SSLCert, s.SSLKey = t.leafFile, t.leafKeyFile
	}
}

// adopting reports whether the run that was interrupted took the place of a mirror-registry.
func (s *site) adopting() bool {
	if s.journal == nil {
		return false
	}
	return slices.ContainsFunc(s.journal.Entries, func(e host.Entry) bool {
		_, ok := e.Step.(*retire)
		return ok
	})
}

// checkTakeOver judges what an install does to a mirror-registry.
func (s *site) checkTakeOver() {
	switch interrupted := s.adopting(); {
	case s.TakeOver == nil && interrupted:
		s.problem("an install that was taking over a mirror-registry was interrupted", "complete it: appliance install --adopt")
	case s.TakeOver != nil && s.quayUnit == "" && !interrupted:
		s.warn("the mirror-registry in "+s.TakeOver.Quay.Root+" was taken over already: its content is not read again",
			"what is missing is taken over by: appliance adopt "+s.TakeOver.Quay.Root)
		s.TakeOver = nil
	}
}

// retire stops the mirror-registry, and keeps its units from starting. Undoing it starts it again.
type retire struct {
	bus     *bus
	host    *host.Host
	UnitDir string `json:"unitDir"`
	Quadlet string `json:"quadlet,omitempty"` // the file that a version 3 has instead of units; empty: a 2.x
}

// retireTheirs adds the end of the mirror-registry. Until the appliance is started, the next boot brings it
// back.
func (b *builder) retireTheirs() error {
	if b.unit == nil || b.adopting() {
		if err := b.directory(filepath.Dir(b.recoverer()), 0o755, b.admin, keep); err != nil {
			return err
		}
		if err := b.recoverAtBoot(b.Binary); err != nil {
			return err
		}
	}
	b.add(b.retire())
	return nil
}

func (s *site) retire() *retire {
	r := &retire{bus: s.bus, host: s.Host, UnitDir: s.unitDir()}
	if s.TakeOver.Quay.Version3 {
		r.Quadlet = adopt.QuadletFile(s.unitDir())
	}
	return r
}

func (s *retire) String() string {
	what := "stop and disable the mirror-registry; its units stay as "
	if s.Quadlet != "" {
		return what + s.Quadlet + RetiredSuffix
	}
	return what + filepath.Join(s.UnitDir, "quay-*.service"+RetiredSuffix)
}

func (s *retire) waits() bool { return true }

// dir returns the directory of the files.
func (s *retire) dir() string {
	if s.Quadlet != "" {
		return filepath.Dir(s.Quadlet)
	}
	return s.UnitDir
}

// files returns the files of units whose name has a suffix.
func (s *retire) files(suffix string) (files []string, err error) {
	names := retired()
	if s.Quadlet != "" {
		names = []string{filepath.Base(s.Quadlet)}
	}
	for _, name := range names {
		info, err := s.host.Stat(filepath.Join(s.dir(), name+suffix))
		switch {
		case notThere(err):
		case err != nil:
			return nil, err
		case info.Mode.IsRegular():
			files = append(files, name)
		}
	}
	return files, nil
}

// units returns the units of files, in the order in which they stop.
func (s *retire) units(files []string) []string {
	if s.Quadlet != "" {
		return []string{quadletService}
	}
	return files
}

func (s *retire) Check(ctx context.Context) (*host.Before, error) {
	files, err := s.files("")
	if err != nil || len(files) == 0 {
		return nil, err
	}
	status, err := s.bus.Status(ctx, s.units(files)[0])
	if err != nil {
		return nil, err
	}
	before := &host.Before{}
	if status.ActiveState == "active" {
		before.Is = "running"
	}
	return before, nil
}

func (s *retire) Apply(ctx context.Context) (bool, error) {
	files, err := s.files("")
	if err != nil {
		return false, err
	}
	if err := s.bus.Stop(ctx, s.units(files)...); err != nil {
		return true, err
	}
	if s.Quadlet == "" { // what is made from a file has no state of its own
		if _, err := s.bus.Disable(ctx, files...); err != nil {
			return true, err
		}
	}
	if err := s.rename(files, "", RetiredSuffix); err != nil {
		return true, err
	}
	return true, s.bus.Reload(ctx)
}

func (s *retire) rename(files []string, from, to string) error {
	dir, err := s.host.OpenRoot(s.dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range files {
		if err := dir.Rename(name+from, name+to); err != nil {
			return err
		}
	}
	return nil
}

func (s *retire) Undo(ctx context.Context, before *host.Before) (bool, error) {
	away, err := s.files(RetiredSuffix)
	if err == nil {
		err = s.rename(away, RetiredSuffix, "")
	}
	if err != nil {
		return true, err
	}
	files, err := s.files("")
	if err != nil {
		return true, err
	}
	if err := s.bus.Reload(ctx); err != nil {
		return true, err
	}
	if s.Quadlet == "" {
		if _, err := s.bus.Enable(ctx, files...); err != nil {
			return true, err
		}
	}
	if before.Is != "running" {
		return true, nil
	}
	units := slices.Clone(s.units(files))
	slices.Reverse(units)
	if s.bus.booting {
		return true, s.bus.Queue(ctx, units...)
	}
	return true, s.bus.Start(ctx, units...)
}

// takeOver imports what a mirror-registry has, through the control socket.
type takeOver struct {
	action
	do func(ctx context.Context, in Installation, t *TakeOver) error
	in Installation
	t  *TakeOver
}

func (s *takeOver) String() string {
	return "take over images, users and robots of the mirror-registry in " + s.t.Quay.Root
}

func (s *takeOver) waits() bool { return true }

func (s *takeOver) Apply(ctx context.Context) (bool, error) { return true, s.do(ctx, s.in, s.t) }

// takeOverQuay is Deps.Adopt.
func takeOverQuay(ctx context.Context, in Installation, t *TakeOver) (err error) {
	uid, gid := os.Geteuid(), os.Getegid()
	if in.Owner != "" {
		owner, err := host.Local().User(in.Owner)
		if err != nil {
			return err
		}
		uid, gid = owner.UID, owner.GID
	}
	control := client.NewUnixOf(in.Config.ControlSocket, uid)
	defer control.Close()
	quay, err := t.Quay.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quay.Close()) }()
	run, err := control.BeginSync(ctx, "adopt "+t.Quay.Root)
	if err != nil {
		return err
	}
	report, err := adopt.Import(ctx, quay, adopt.Options{Way: adopt.Link, Run: run, Storage: in.Config.Storage, UID: uid, GID: gid, Progress: t.Progress})
	if err == nil && report.Manifests == 0 && len(report.Problems) > 0 {
		err = hint.New(fmt.Errorf("nothing could be imported, such as %s", report.Problems[0]), "see that the mirror-registry itself works")
	}
	if err == nil {
		err = quay.ImportUsers(ctx, control, &report)
	}
	if err == nil && t.Report != nil {
		t.Report(report)
	}
	return err
}

// publicPatterns are the repositories of a mirror-registry that are pulled without a login.
func (s *site) publicPatterns() []string {
	if s.TakeOver == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.TakeOver.Public), func(p string) bool { return strings.Contains(p, "*") })
}
