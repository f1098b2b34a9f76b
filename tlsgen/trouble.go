package tlsgen

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

const (
	// caNotice is the time before its end at which a CA is reported: each client has
	// to get a new one.
	caNotice = 180 * 24 * time.Hour
	// leafNotice is the same for a certificate that the user renews.
	leafNotice = 30 * 24 * time.Hour
)

// Trouble returns the reasons for which clients reject the certificate that is served, or will
// after the next start, and those for which they soon will. The errors have hints.
func (m *Manager) Trouble() (refused, soon []error) {
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
			soon = append(soon, problem("%s expires at %s", cert.NotAfter))
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
		return refused, soon
	}
	if m.acme != nil {
		if cert := m.acme.current(m.o); cert != nil {
			life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
			judge("the certificate of the ACME server", "", cert.Leaf, life/6, remedyACME(m.acme.name))
		}
		if err := m.acme.trouble(m.o); err != nil {
			soon = append(soon, err)
		}
	}
	if names := m.o.CA.Refuses(m.o.Names); len(names) > 0 {
		refused = append(refused, fault(m.o.CAFile, fmt.Sprintf("the CA may not sign for %q (its name "+
			"constraints), and the certificate served is not for that name", names),
			"put the hostname in config.yaml back, or run install again: it makes a new CA, which "+
				"clients must then be given", nil))
	}
	return refused, soon
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
