// Package tlsgen makes and keeps the certificates that the registry serves.
//
// Use CreateCA and CA.IssueLeaf to install, LoadCA and NewManager to serve. A Manager has one certificate and serves it to
// each client, whatever name the client asks for.
//
// With a CA, certmagic renews the leaf: it is proven under load, and an ACME issuer can stand beside the CA's without
// another life cycle. Its storage is only working memory. The files that scripts know (ssl.cert, ssl.key) count: the pair is
// adopted at start, so that a lost or torn storage costs nothing, and the daemon serves what install issued.
//
// Without a CA, the files are the user's own, and certmagic is not used: it finds certificates by their names, while the
// user's certificate has to be served also if it names something else.
//
// Keys are ECDSA on P-256, which RHEL in FIPS mode, every TLS 1.2 client and every browser accept, and which sign a
// handshake in a fraction of the time of RSA. Refused: Ed25519, which FIPS mode and older Java clients do not accept. A CA
// made elsewhere, such as mirror-registry's with RSA, is used as it is.
package tlsgen
