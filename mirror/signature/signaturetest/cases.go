// Package signaturetest makes sigstore signatures by keys, by Fulcio's certificates and by those of a PKI,
// valid and with each fault, for the tests of mirror/signature and for their comparison with the library
// by which CRI-O pulls.
package signaturetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Repository is where the image is.
const Repository = "quay.io/openshift-release-dev/ocp-release"

// Manifest is the image that is signed.
const Manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

const (
	signer   = "signer@example.com"
	provider = "https://login.example.com"
)

// refused is in each reason.
const refused = " "

// Case is a signature, and a policy that it is judged by.
type Case struct {
	Name string
	// Requirement is of policy.json, and Policy a ClusterImagePolicy that asks for the same.
	Requirement, Policy string
	Text                string
	Annotations         map[string]string
	// Want is in the error; empty for a valid signature.
	Want string
}

// Cases returns all cases.
func Cases(t testing.TB) []Case {
	t.Helper()
	return append(append(fulcio(t), pki(t)...), keyAndLog(t)...)
}

func b64(text []byte) string { return base64.StdEncoding.EncodeToString(text) }

// rooted is a requirement of policy.json, and the root of trust of a ClusterImagePolicy with the same meaning.
type rooted struct{ requirement, cluster string }

// with returns the case of a signature.
func (r rooted) with(t testing.TB, name string, s *signed, want string) Case {
	t.Helper()
	text, annotations := s.make(t)
	return Case{name,
		`{"type":"sigstoreSigned",` + r.requirement + `,"signedIdentity":{"type":"exactRepository","dockerRepository":"` + Repository + `"}}`,
		"kind: ClusterImagePolicy\nspec:\n  scopes: [quay.io]\n  policy:\n    rootOfTrust: {" + r.cluster + "}\n", text, annotations, want}
}

// change is a case.
type change struct {
	do   func(*signed)
	want string // in the error; "" for a valid signature
}

// ofAnyKind are cases of each root.
func ofAnyKind(t testing.TB) map[string]change {
	other := newECDSA(t)
	return map[string]change{
		"valid":          {func(*signed) {}, ""},
		"another digest": {func(s *signed) { s.text = document(digest.FromString("x"), Repository+":v1") }, "it is the signature of sha256:"},
		"another repository": {func(s *signed) { s.text = document(digest.FromString(Manifest), "quay.io/other/x:v1") },
			"it is the signature of quay.io/other/x"},
		"a text that was changed": {func(s *signed) { s.published = s.text + " " }, refused},
		"a signature by another key": {func(s *signed) {
			_, sign := newKey(t, other)
			s.record.signature = sign(s.text)
			s.finally = func(a map[string]string) { a["dev.cosignproject.cosign/signature"] = s.record.signature }
		}, "it is not a signature by the"},
		"no base64": {func(s *signed) {
			s.finally = func(a map[string]string) { a["dev.cosignproject.cosign/signature"] = "!" }
		}, refused},
	}
}

// ofLogs are cases of roots with a log.
func ofLogs(t testing.TB) map[string]change {
	other := newECDSA(t)
	return map[string]change{
		"no entry":                        {func(s *signed) { s.log = nil }, "no entry of a log"},
		"another log":                     {func(s *signed) { s.log = other }, "not signed by a log of the policy"},
		"an entry that was changed":       {func(s *signed) { s.entry = func(e *entry) { e.IntegratedTime++ } }, "not signed by a log"},
		"an entry about another text":     {func(s *signed) { s.record.text = "x" }, "about another text"},
		"an entry of another signature":   {func(s *signed) { s.record.signature = "AAAA" }, "about another signature"},
		"an entry of another key":         {func(s *signed) { s.record.public, _ = newKey(t, other) }, "about another key"},
		"an entry of another kind":        {func(s *signed) { s.record.kind = "intoto" }, "is not built"},
		"an entry without a key":          {func(s *signed) { s.record.public = []byte("x") }, "the key of its entry"},
		"an entry that is no JSON":        {func(s *signed) { s.finally = func(a map[string]string) { a["dev.sigstore.cosign/bundle"] = "x" } }, "read its entry"},
		"an entry with more than it says": {func(s *signed) { s.finally = extended }, "read its entry"},
	}
}

func extended(a map[string]string) {
	a["dev.sigstore.cosign/bundle"] = strings.Replace(a["dev.sigstore.cosign/bundle"], "{", `{"More":1,`, 1)
}

// ofCertificates are cases of roots with a CA.
func ofCertificates(t testing.TB) map[string]change {
	stranger := newCA(t, nil)
	return map[string]change{
		"another root":              {func(s *signed) { s.ca, s.chain = newCA(t, stranger), []*ca{stranger} }, "unknown authority"},
		"another email address":     {func(s *signed) { s.leaf.EmailAddresses = []string{"other@example.com"} }, "not for " + signer},
		"several addresses":         {func(s *signed) { s.leaf.EmailAddresses = append(s.leaf.EmailAddresses, "x@example.com") }, ""},
		"a certificate for servers": {func(s *signed) { s.leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "incompatible key usage"},
		"no certificate":            {func(s *signed) { s.finally = func(a map[string]string) { a["dev.sigstore.cosign/certificate"] = "" } }, "0 certificates"},
		"two certificates": {func(s *signed) {
			s.finally = func(a map[string]string) { a["dev.sigstore.cosign/certificate"] += string(stranger.pem) }
		}, "2 certificates"},
		"a certificate that is none": {func(s *signed) { s.finally = func(a map[string]string) { a["dev.sigstore.cosign/certificate"] = "x" } }, "not PEM"},
		"a chain that is none":       {func(s *signed) { s.finally = func(a map[string]string) { a["dev.sigstore.cosign/chain"] = "x" } }, "not PEM"},
	}
}

// text is what is signed.
func text() string { return document(digest.FromString(Manifest), Repository+":4.15.0-x86_64") }

// signs is for certificates that sign for an address.
func signs(from, until time.Time) x509.Certificate {
	return x509.Certificate{EmailAddresses: []string{signer}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		NotBefore: from, NotAfter: until}
}

// fulcio returns the cases of Fulcio's certificates.
func fulcio(t testing.TB) (all []Case) {
	t.Helper()
	top := newCA(t, nil)
	between, log := newCA(t, top), newECDSA(t)
	rekor, _ := newKey(t, log)
	r := rooted{
		fmt.Sprintf(`"fulcio":{"caData":%q,"oidcIssuer":%q,"subjectEmail":%q},"rekorPublicKeyData":%q`, b64(top.pem), provider, signer, b64(rekor)),
		fmt.Sprintf(`policyType: FulcioCAWithRekor, fulcioCAWithRekor: {fulcioCAData: %s, rekorKeyData: %s, fulcioSubject: {oidcIssuer: %q, signedEmail: %s}}`,
			b64(top.pem), b64(rekor), provider, signer),
	}
	day := time.Now().Add(-24 * time.Hour) // the certificates are valid for minutes
	for name, c := range merged(ofAnyKind(t), ofLogs(t), ofCertificates(t), map[string]change{
		"expired when it was logged":   {func(s *signed) { s.logged = day.Add(11 * time.Minute) }, "expired or is not yet valid"},
		"not yet valid when logged":    {func(s *signed) { s.logged = day.Add(-11 * time.Minute) }, "expired or is not yet valid"},
		"the issuer as it was before":  {func(s *signed) { s.issuer, s.issuer2 = provider, "" }, ""},
		"the issuer in both ways":      {func(s *signed) { s.issuer = provider }, ""},
		"issuers that differ":          {func(s *signed) { s.issuer = "https://other.example.com" }, "not one"},
		"another issuer":               {func(s *signed) { s.issuer2 = provider + "/" }, "a login at"},
		"no issuer":                    {func(s *signed) { s.issuer2 = "" }, "not one"},
		"no intermediate certificate":  {func(s *signed) { s.chain = nil }, "unknown authority"},
		"a chain without the root":     {func(s *signed) { s.chain = s.chain[:1] }, "unknown authority"},
		"a certificate of the CA":      {func(s *signed) { s.ca, s.chain = top, nil }, ""},
		"an entry about the plain key": {func(s *signed) { s.record.public, _ = newKey(t, s.by) }, "about another key"},
	}) {
		s := &signed{text: text(), by: newECDSA(t), ca: between, chain: []*ca{between, top}, issuer2: provider, log: log, logged: day,
			leaf: signs(day.Add(-10*time.Minute), day.Add(10*time.Minute))}
		c.do(s)
		all = append(all, r.with(t, "Fulcio, "+name, s, c.want))
	}
	return all
}

func merged(all ...map[string]change) map[string]change {
	sum := map[string]change{}
	for _, some := range all {
		maps.Copy(sum, some)
	}
	return sum
}

// organization is a PKI with an intermediate CA.
type organization struct{ top, between *ca }

// policy is that of an address and a host name, and of an intermediate CA if that is known.
func (o organization) policy(email, hostname string, known bool) rooted {
	host, cluster, subject := fmt.Sprintf(`"caRootsData":%q`, b64(o.top.pem)), "caRootsData: "+b64(o.top.pem), ""
	if email != "" {
		host, subject = host+fmt.Sprintf(`,"subjectEmail":%q`, email), "email: "+email+","
	}
	if hostname != "" {
		host, subject = host+fmt.Sprintf(`,"subjectHostname":%q`, hostname), subject+"hostname: "+hostname
	}
	if known {
		host, cluster = host+fmt.Sprintf(`,"caIntermediatesData":%q`, b64(o.between.pem)), cluster+", caIntermediatesData: "+b64(o.between.pem)
	}
	return rooted{`"pki":{` + host + `}`, "policyType: PKI, pki: {" + cluster + ", pkiCertificateSubject: {" + subject + "}}"}
}

// pki returns the cases of an organization's certificates.
func pki(t testing.TB) (all []Case) {
	t.Helper()
	o := organization{top: newCA(t, nil)}
	o.between = newCA(t, o.top)
	ofRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	add := func(r rooted, cases map[string]change) {
		for name, c := range cases {
			s := &signed{text: text(), by: newECDSA(t), ca: o.between, chain: []*ca{o.between, o.top},
				leaf: signs(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))}
			c.do(s)
			all = append(all, r.with(t, "PKI, "+name, s, c.want))
		}
	}
	add(o.policy(signer, "", true), merged(ofAnyKind(t), ofCertificates(t), map[string]change{
		"expired":                     {func(s *signed) { s.leaf.NotAfter = time.Now().Add(-time.Minute) }, "expired or is not yet valid"},
		"not yet valid":               {func(s *signed) { s.leaf.NotBefore = time.Now().Add(time.Minute) }, "expired or is not yet valid"},
		"the chain is not needed":     {func(s *signed) { s.chain = nil }, ""},
		"a log is not asked":          {func(s *signed) { s.log, s.logged = newECDSA(t), time.Now().Add(-99*time.Hour) }, ""},
		"a key of another kind (RSA)": {func(s *signed) { s.by = ofRSA }, ""},
	}))
	add(o.policy(signer, "", false), map[string]change{
		"the chain is the signature's": {func(*signed) {}, ""},
		"there is no chain":            {func(s *signed) { s.chain = nil }, "unknown authority"},
	})
	const host = "build.example.com"
	named := func(name string) func(*signed) { return func(s *signed) { s.leaf.DNSNames = []string{name} } }
	add(o.policy("", host, true), map[string]change{
		"a host name":             {named(host), ""},
		"a pattern of host names": {named("*.example.com"), ""},
		"another host name":       {named("other.example.com"), "not " + host},
		"no host name":            {func(*signed) {}, "its certificate: "},
	})
	add(o.policy(signer, host, true), map[string]change{
		"address and host name": {named(host), ""},
		"the host name alone":   {func(s *signed) { s.leaf.DNSNames, s.leaf.EmailAddresses = []string{host}, nil }, "not for " + signer},
	})
	return all
}

// keyAndLog returns the cases of a key with a log beside it.
func keyAndLog(t testing.TB) (all []Case) {
	t.Helper()
	key, log := newECDSA(t), newECDSA(t)
	public, _ := newKey(t, key)
	rekor, _ := newKey(t, log)
	r := rooted{
		fmt.Sprintf(`"keyData":%q,"rekorPublicKeyData":%q`, b64(public), b64(rekor)),
		fmt.Sprintf(`policyType: PublicKey, publicKey: {keyData: %s, rekorKeyData: %s}`, b64(public), b64(rekor)),
	}
	for name, c := range merged(ofAnyKind(t), ofLogs(t)) {
		s := &signed{text: text(), by: key, log: log, logged: time.Now()}
		c.do(s)
		all = append(all, r.with(t, "key, "+name, s, c.want))
	}
	return all
}
