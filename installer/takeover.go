package installer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// RetiredSuffix is added to the names of the units of a mirror-registry that an install has replaced:
// ours has the alias quay-app.service.
const RetiredSuffix = ".mirror-registry"

// retired are the units of a mirror-registry, in the order in which they stop.
func retired() []string {
	return []string{"quay-app.service", "quay-redis.service", "quay-pod.service"}
}

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
	t.leafFile, t.leafKeyFile = filepath.Join(q.Root, "quay-config", "ssl.cert"), filepath.Join(q.Root, "quay-config", "ssl.key")
	for file, to := range map[string]*[]byte{
		filepath.Join(q.Root, "quay-rootCA", "rootCA.pem"): &t.ca, filepath.Join(q.Root, "quay-rootCA", "rootCA.key"): &t.caKey,
		t.leafFile: &t.leaf, t.leafKeyFile: &t.key,
	} {
		if *to, err = s.Host.ReadFile(file); err != nil && !notThere(err) {
			return t, fmt.Errorf("read the certificates of the mirror-registry: %w", err)
		}
	}
	t.pair, t.pairErr = tls.X509KeyPair(t.leaf, t.key)
	if t.ca == nil || t.caKey == nil {
		return t, nil
	}
	if t.authority, err = tlsgen.ParseCA(t.ca, t.caKey); err != nil {
		err = fmt.Errorf("the CA of the mirror-registry: %w", err)
	}
	return t, err
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
	if t.signed() && t.pair.Leaf.VerifyHostname(s.cfg.Hostname) == nil && time.Now().Before(t.pair.Leaf.NotAfter) {
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
}

func (s *retire) String() string {
	return "stop and disable the mirror-registry; its units stay as " + filepath.Join(s.UnitDir, "quay-*.service"+RetiredSuffix)
}

func (s *retire) waits() bool { return true }

// units returns those whose file has a name with a suffix.
func (s *retire) units(suffix string) (units []string, err error) {
	for _, unit := range retired() {
		info, err := s.host.Stat(filepath.Join(s.UnitDir, unit+suffix))
		switch {
		case notThere(err):
		case err != nil:
			return nil, err
		case info.Mode.IsRegular():
			units = append(units, unit)
		}
	}
	return units, nil
}

func (s *retire) Check(ctx context.Context) (*host.Before, error) {
	units, err := s.units("")
	if err != nil || len(units) == 0 {
		return nil, err
	}
	status, err := s.bus.Status(ctx, retired()[0])
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
	units, err := s.units("")
	if err != nil {
		return false, err
	}
	if err := s.bus.Stop(ctx, units...); err != nil {
		return true, err
	}
	if _, err := s.bus.Disable(ctx, units...); err != nil {
		return true, err
	}
	if err := s.rename(units, "", RetiredSuffix); err != nil {
		return true, err
	}
	return true, s.bus.Reload(ctx)
}

func (s *retire) rename(units []string, from, to string) error {
	dir, err := s.host.OpenRoot(s.UnitDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, unit := range units {
		if err := dir.Rename(unit+from, unit+to); err != nil {
			return err
		}
	}
	return nil
}

func (s *retire) Undo(ctx context.Context, before *host.Before) (bool, error) {
	away, err := s.units(RetiredSuffix)
	if err == nil {
		err = s.rename(away, RetiredSuffix, "")
	}
	if err != nil {
		return true, err
	}
	units, err := s.units("")
	if err != nil {
		return true, err
	}
	if err := s.bus.Reload(ctx); err != nil {
		return true, err
	}
	if _, err := s.bus.Enable(ctx, units...); err != nil || before.Is != "running" || s.bus.booting {
		return true, err
	}
	slices.Reverse(units)
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
