package installer

import (
	"cmp"
	"fmt"
	"io/fs"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// wantGiven judges the certificate and key of the request, and has the configuration name the
// copies of them as the user's own.
func (s *site) wantGiven() {
	for _, flag := range []struct{ have, lacks, value, other string }{
		{"--sslCert", "--sslKey", s.SSLCert, s.SSLKey}, {"--sslKey", "--sslCert", s.SSLKey, s.SSLCert}} {
		if flag.value != "" && flag.other == "" {
			s.problem(flag.have+" is given without "+flag.lacks,
				"give both: the certificate with its chain, and its key; or neither, to have a CA and a "+
					"certificate made")
		}
	}
	if s.SSLCert == "" || s.SSLKey == "" {
		return
	}
	given := s.judgeGiven()
	if given == nil || s.cfg == nil {
		return
	}
	usual, tls := s.usual(), s.cfg.TLS
	tls.Certificate, tls.Key = usual.Certificate, usual.Key
	if tls.CAKey != "" { // else the CA is that of the certificate so far, and is checked
		tls.CA, tls.CAKey, tls.State, tls.ACME = "", "", "", config.ACME{}
	}
	if !s.kept {
		s.cfg.TLS = tls
	} else if text, cfg, ok := config.SetTLS(s.text, s.cfg, tls); ok {
		s.text, s.cfg = text, cfg
	} else {
		s.problem(s.confPath()+" writes its keys under tls: in a way that install does not change",
			fmt.Sprintf("change them with an editor: certificate: %s, key: %s, and empty ca, caKey and state",
				tls.Certificate, tls.Key))
		return
	}
	s.given = given
	s.judgeIssuer()
}

// judgeGiven returns nil for a pair that clients would reject.
func (s *site) judgeGiven() *tlsgen.Own {
	given, err := tlsgen.ReadOwn(s.Host.Path(s.expand(s.SSLCert)), s.Host.Path(s.expand(s.SSLKey)))
	if err != nil {
		s.fault(err, "give another file")
		return nil
	}
	found := len(s.problems)
	if err := given.CheckTime(s.now); err != nil {
		s.fault(err, "")
	}
	if s.cfg != nil && !s.SSLCheckSkip && invalidHostname(s.cfg.Hostname) == "" {
		if err := given.CheckName(s.cfg.Hostname); err != nil {
			s.fault(err, "")
		}
	}
	if len(s.problems) > found {
		return nil
	}
	return given
}

// ownFile returns where this process finds the user's own certificate that is there already.
func (s *site) ownFile() string {
	return tlsgen.OwnFile(s.Host.Path(s.cfg.TLS.Certificate), s.Host.Path(s.cfg.TLS.Key))
}

// judgeIssuer warns of clients that may not know the issuer of the pair.
func (s *site) judgeIssuer() {
	ca := s.cfg.TLS.CA
	if ca != "" {
		ca = s.Host.Path(ca)
	}
	refused, doubtful := s.given.CheckChain(ca)
	if refused != nil {
		s.fault(refused, "replace the file")
		return
	}
	if doubtful == nil && ca == "" {
		doubtful = s.given.CheckKnown()
	}
	if doubtful != nil {
		s.warn(doubtful.Error(), cmp.Or(hint.Of(doubtful), "complete the file"))
	}
}

// givenSteps write the pair of the request. Where the daemon's own lay so far, there are links.
func (s *site) givenSteps() (steps []host.Step) {
	for _, f := range []struct {
		path    string
		content []byte
		mode    fs.FileMode
		owner   string
	}{
		{s.cfg.TLS.Key, s.given.KeyPEM, s.keyMode(), s.reader()},
		{s.cfg.TLS.Certificate, s.given.CertPEM, 0o644, s.admin},
	} {
		if s.isLink(f.path) {
			steps = append(steps, &host.Remove{Host: s.Host, Path: f.path})
		}
		steps = append(steps, &host.File{Host: s.Host, Path: f.path, Content: f.content, Mode: f.mode,
			Owner: f.owner})
	}
	return steps
}

// keyMode lets the service, which is not root, read a key that root has written.
func (s *site) keyMode() fs.FileMode {
	if s.User {
		return 0o600
	}
	return 0o640
}
