package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

const (
	soon    = 30 * 24 * time.Hour  // in which a certificate should not end
	soonCA  = 180 * 24 * time.Hour // and a CA: it has to be changed on all nodes
	dialing = 15 * time.Second     // longest time for a connection
	drift   = time.Minute          // between the clocks of this host and of a registry
)

// registry looks at a registry: its name, its certificate, its clock, and the login for it.
func (c *checker) registry(ctx context.Context, registry string) {
	if c.name(ctx, registry) && c.certificate(ctx, registry) && c.login(ctx, registry) {
		return
	}
	c.down = append(c.down, registry)
}

func hostAndPort(registry string) (host, port string) {
	if host, port, err := net.SplitHostPort(registry); err == nil {
		return host, port
	}
	return registry, "443"
}

// name resolves the name of a registry.
func (c *checker) name(ctx context.Context, registry string) bool {
	host, _ := hostAndPort(registry)
	if _, err := netip.ParseAddr(host); err == nil {
		c.tell(finding.OK, "name", registry, "it is named by its address", "")
		return true
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		c.tell(finding.Failed, "name", registry, err.Error(), "give nodes a DNS server that knows "+host+": networkConfig in agent-config.yaml")
		return false
	}
	var addresses []string
	for _, a := range found {
		if a = a.Unmap(); !slices.Contains(addresses, a.String()) {
			addresses = append(addresses, a.String())
		}
	}
	text := host + " is " + strings.Join(addresses, ", ")
	if slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Unmap().IsLoopback() }) {
		c.tell(finding.Warning, "name", registry, text+": on this host that is the host itself, and a node would ask itself", "have the DNS server of the nodes answer with the address of the registry: dig "+host)
		return true
	}
	c.tell(finding.OK, "name", registry, text, "")
	return true
}

// certificate makes a connection as nodes do, with the CAs that they get.
func (c *checker) certificate(ctx context.Context, registry string) bool {
	host, port := hostAndPort(registry)
	config, err := upstream.TLSConfig(upstream.Trust{Bundle: c.Bundle}, false)
	if err != nil {
		c.tell(finding.Failed, "certificate", registry, "additionalTrustBundle: "+err.Error(), "put the registry's CA into it: curl -k https://"+registry+"/ca.crt")
		return false
	}
	config.ServerName = host
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: dialing}, Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		c.tell(finding.Failed, "certificate", registry, reason(err), certificateHint(err, registry))
		return false
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	end := leaf.NotAfter.Local().Format(time.DateOnly)
	switch {
	case time.Until(leaf.NotAfter) < soon:
		c.tell(finding.Warning, "certificate", registry, "it is trusted, and ends on "+end, "an appliance renews its own; have yours renewed")
	case !c.byBundle(conn.(*tls.Conn).ConnectionState().PeerCertificates):
		c.tell(finding.Warning, "certificate", registry, "this host trusts it, and the CAs that nodes get do not have "+leaf.Issuer.CommonName, "put that CA into additionalTrustBundle (curl -k https://"+registry+"/ca.crt), unless nodes have it in their system")
	default:
		c.tell(finding.OK, "certificate", registry, "it is trusted, for this name, until "+end, "")
	}
	c.bundle(registry)
	return true
}

// byBundle reports whether the CAs that nodes get have signed a certificate, without those of this host.
func (c *checker) byBundle(chain []*x509.Certificate) bool {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AppendCertsFromPEM(c.Bundle)
	for _, between := range chain[1:] {
		o.Intermediates.AddCert(between)
	}
	_, err := chain[0].Verify(o)
	return err == nil
}

// bundle looks for CAs of the bundle that have ended, or will soon, and at when nodes use it.
func (c *checker) bundle(registry string) {
	if c.InstallConfig && len(c.Bundle) > 0 && c.Policy != "Always" {
		c.tell(finding.Warning, "certificate", registry, "additionalTrustBundlePolicy is not Always: the cluster uses the CAs for a proxy only", "write additionalTrustBundlePolicy: Always")
	}
	for block, rest := pem.Decode(c.Bundle); block != nil; block, rest = pem.Decode(rest) {
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil || time.Until(ca.NotAfter) > soonCA {
			continue
		}
		c.tell(finding.Warning, "certificate", registry, fmt.Sprintf("of the CAs that nodes get, %s ends on %s", ca.Subject.CommonName, ca.NotAfter.Local().Format(time.DateOnly)),
			"give the cluster its successor before: the ConfigMap user-ca-bundle in openshift-config")
	}
}

// reason shortens an error of a connection.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil && op.Op == "dial" {
		return "no connection to " + op.Addr.String() + ": " + op.Err.Error()
	}
	return err.Error()
}

func certificateHint(err error, registry string) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return "put the CA that has signed it into additionalTrustBundle: curl -k https://" + registry + "/ca.crt, or run appliance cluster-config again"
	case errors.As(err, &name):
		return "name the registry as its certificate does, in pullSecret and imageDigestSources too"
	case errors.As(err, &invalid):
		return "compare the clocks of this host and the registry; on the registry's host: appliance status"
	case errors.As(err, &record):
		return "there is no TLS at that port; nodes ask no registry without"
	}
	return "check the port, that the registry runs, and firewalls between"
}

// login logs in as a node does.
func (c *checker) login(ctx context.Context, registry string) bool {
	auth, user, err := cluster.Auth(c.Secret, registry)
	if c.Secret != nil && err != nil {
		c.tell(finding.Failed, "login", registry, "the pull secret: "+err.Error(), "make it anew: appliance cluster-config")
		return false
	}
	client, err := c.client(registry)
	if err == nil {
		_, err = client.Login(ctx, "")
	}
	if err == nil {
		var date string
		began := time.Now()
		if date, err = greet(ctx, registry, c.Bundle, auth); date != "" || err == nil {
			c.clock(registry, began, date)
		}
	}
	switch {
	case err != nil && user == "":
		c.tell(finding.Failed, "login", registry, "the pull secret has no login for it: "+err.Error(), "give nodes the one in quay-config/pull-secret.json of the appliance's install directory: appliance cluster-config, or --pull-secret")
	case err != nil:
		c.tell(finding.Failed, "login", registry, "user "+user+": "+err.Error(), "compare it with quay-config/pull-secret.json of the appliance's install directory; on its host: appliance user list")
	case user == "":
		c.tell(finding.Warning, "login", registry, "the pull secret has no login for it, and it answers without one", "nodes may then read what anonymousPull of config.yaml lets them")
	default:
		c.tell(finding.OK, "login", registry, "user "+user, "")
	}
	return err == nil
}

// RefusedError reports that a registry does not take a login.
type RefusedError struct{ Status string }

func (e *RefusedError) Error() string { return "it answers " + e.Status }

// Login tries a login, the auth of a pull secret, with the CAs of a bundle and of the system. It returns a
// *RefusedError if the registry does not take it, and another error if that could not be asked. A
// registry that gives tokens is not asked for one.
func Login(ctx context.Context, registry string, bundle []byte, auth string) error {
	_, err := greet(ctx, registry, bundle, auth)
	return err
}

// greet is Login, and returns the header Date of the answer.
func greet(ctx context.Context, registry string, bundle []byte, auth string) (date string, err error) {
	config, err := upstream.TLSConfig(upstream.Trust{Bundle: bundle}, false)
	if err != nil {
		return "", err
	}
	wire := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}
	defer wire.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+registry+"/v2/", nil)
	if err != nil {
		return "", err
	}
	if auth != "" {
		r.Header.Set("Authorization", "Basic "+auth)
	}
	resp, err := (&http.Client{Transport: wire, Timeout: dialing}).Do(r)
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	byToken := strings.Contains(strings.ToLower(strings.Join(resp.Header.Values("Www-Authenticate"), " ")), "bearer ")
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusUnauthorized || !byToken) {
		err = &RefusedError{resp.Status}
	}
	return resp.Header.Get("Date"), err
}

// clock compares the clock of a registry with this host's.
func (c *checker) clock(registry string, now time.Time, date string) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		c.tell(finding.Warning, "clock", registry, "it does not tell its time", "")
		return
	}
	apart := theirs.Sub(now).Round(time.Second)
	if apart.Abs() > drift {
		c.tell(finding.Warning, "clock", registry, fmt.Sprintf("it is %s apart from this host's", apart.Abs()), "hosts whose clocks differ do not install: additionalNTPSources in agent-config.yaml, and NTP on the registry's host (timedatectl)")
		return
	}
	c.tell(finding.OK, "clock", registry, "it agrees with this host's", "")
}
