package tlsgen

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

const (
	// caNotice is the time before its end at which a CA is reported: each client has
	// to get a new one.
	caNotice = 180 * 24 * time.Hour
	// leafNotice is the same for a certificate that the user renews.
	leafNotice = 30 * 24 * time.Hour
)

// Trouble returns the reasons for which clients reject the certificate that is served, or will
// after the next start, and what else needs attention: the reasons for which they soon will, a name
// that the user's own certificate lacks, a rotation that is not finished. The errors have hints.
func (m *Manager) Trouble() (refused, notices []error) {
	now := m.o.Now()
	judge := func(what, file string, cert *x509.Certificate, notice time.Duration, remedy string) {
		problem := func(format string, at time.Time) error {
			return fault(file, fmt.Sprintf(format, what, at.Format(time.RFC3339)), remedy, nil)
		}
		switch {
		case now.After(cert.NotAfter):
			refused = append(refused, problem(
				"%s expired at %s, and clients refuse it; check this host's clock as well", cert.NotAfter))
		case now.Before(cert.NotBefore):
			refused = append(refused, problem(
				"%s is valid from %s only, and clients refuse it until then; check this host's clock",
				cert.NotBefore))
		case cert.NotAfter.Sub(now) < notice:
			notices = append(notices, problem("%s expires at %s", cert.NotAfter))
		}
	}
	if ca := m.authority(); ca != nil {
		judge("the CA", m.o.CAFile, ca, caNotice, m.newCA())
	}
	notice, remedy := leafNotice, "get a new one, then: appliance cert replace --sslCert FILE --sslKey FILE"
	if m.o.CA != nil {
		// It is renewed long before, so that what is in the way has been there for long.
		notice = min(leafNotice, m.o.lifetime/6)
		remedy = "put the clock right if it is wrong, then type: appliance cert renew; it tells what is in " +
			"the way"
	}
	if served, err := m.source.current(); err != nil {
		refused = append(refused, fault("", "there is no certificate to serve", "", err))
	} else {
		if m.o.CA != nil && served.Leaf.NotAfter.Equal(m.o.CA.NotAfter()) {
			notice = 0 // it cannot be good for longer
		}
		judge("the certificate", m.o.CertFile, served.Leaf, notice, remedy)
	}
	if i, ok := m.source.(*interim); ok {
		if err := i.trouble(m.o.CertFile); err != nil {
			refused = append(refused, err)
		}
	}
	if m.o.CA == nil {
		return refused, append(notices, m.misnamed()...)
	}
	for _, err := range []error{m.rotating(), m.differing()} {
		if err != nil {
			notices = append(notices, err)
		}
	}
	if apart := m.apart.Load(); apart != nil && *apart != nil {
		notices = append(notices, *apart)
	}
	if m.acme != nil {
		if cert := m.acme.current(m.o); cert != nil {
			life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
			judge("the certificate of the ACME server", "", cert.Leaf, life/6, remedyACME(m.acme.name))
		}
		if err := m.acme.trouble(m.o); err != nil {
			notices = append(notices, err)
		}
	}
	if names := m.o.CA.Refuses(m.o.Names); len(names) > 0 {
		refused = append(refused, fault(m.o.CAFile, fmt.Sprintf("the CA may not sign for %q (its name "+
			"constraints), and the certificate served is not for that name", names),
			"put the hostname in config.yaml back, or run install again: it makes a new CA, which "+
				"clients must then be given", nil))
	}
	return refused, notices
}

// misnamed returns an error if the user's own certificate lacks the hostname: install takes one with
// --sslCheckSkip, for clients that do not check names.
func (m *Manager) misnamed() []error {
	served, err := m.source.current()
	if err != nil {
		return nil // told already
	}
	own := Own{file: OwnFile(m.o.CertFile, m.o.KeyFile), cert: served}
	if err := own.CheckName(m.o.Names[0]); err != nil {
		return []error{hint.New(err, Misnamed)}
	}
	return nil
}

// Misnamed is the hint where such a certificate is served.
const Misnamed = "clients that check names refuse it; put in one with that name: " +
	"appliance cert replace --sslCert FILE --sslKey FILE"

// NextKeyFile returns the file where the key of the next CA waits for the end of a rotation, beside
// that of the CA.
func NextKeyFile(caKeyFile string) string {
	return filepath.Join(filepath.Dir(caKeyFile), "rootCA-next-key.pem")
}

// rotating returns an error while clients are given a second CA, which does not sign yet.
func (m *Manager) rotating() error {
	if m.o.CAKeyFile == "" {
		return nil
	}
	if _, err := os.Stat(NextKeyFile(m.o.CAKeyFile)); err != nil {
		return nil
	}
	data, err := readFile(m.o.CAFile)
	if err != nil {
		return nil // told at the start
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		next, err := x509.ParseCertificate(block.Bytes)
		if err != nil || next.Equal(m.o.CA.cert) {
			continue
		}
		return fault(m.o.CAFile, fmt.Sprintf("the CA is being replaced, since %s: clients are given two, and the old one signs "+
			"(its serial number is %X, that of the new one %X)", next.NotBefore.Add(backdate).Format(time.RFC3339),
			m.o.CA.cert.SerialNumber, next.SerialNumber),
			"once all clients have the new one, which /ca.crt has: appliance cert rotate-ca --finish; to give it up: "+
				"appliance cert rotate-ca --abort", nil)
	}
	return nil
}

// authority returns the CA that clients trust, nil if it is not known here.
func (m *Manager) authority() *x509.Certificate {
	if m.o.CA != nil {
		return m.o.CA.cert
	}
	if m.o.CAFile == "" {
		return nil
	}
	cert, err := readCert(m.o.CAFile)
	if err != nil {
		return nil
	}
	return cert
}

// newCA returns how to get another CA.
func (m *Manager) newCA() string {
	if m.o.CA == nil {
		return "get a certificate of a new CA, put its files in place, and give the CA to the clients"
	}
	return "replace it by a new one: appliance cert rotate-ca; where systemd does not run the registry, " +
		NewCA(m.o.CAFile, m.o.CAKeyFile, m.o.CertFile, m.o.KeyFile)
}

// NewCA returns how to get another CA than the one in these files.
func NewCA(files ...string) string {
	return "move " + strings.Join(files, " ") +
		" away and run install again: it makes a new CA, which clients must then be given"
}

// CANotAfter returns the end of the CA's validity, the zero time if it is not known.
func (m *Manager) CANotAfter() time.Time {
	if ca := m.authority(); ca != nil {
		return ca.NotAfter
	}
	return time.Time{}
}
