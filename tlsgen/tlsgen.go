// Package tlsgen makes and keeps the certificates that the registry shows.
//
// Use CreateCA and CA.IssueLeaf to install, LoadCA and NewManager to serve, Inspect to tell a person what a
// certificate file says. A Manager has one certificate and gives it to every client, whatever name it asked for.
//
// With a CA, certmagic renews the leaf: it has kept certificates alive for years under load, and an ACME issuer
// can stand beside ours without another life cycle. Its storage is only its working memory here. The truth is the
// pair of files that people's scripts know (ssl.cert, ssl.key), which is what is adopted at start; so a lost or
// torn storage costs nothing, and what install issued is what the daemon serves.
//
// Without a CA, the files are the user's own, and certmagic is left out: it finds certificates by the names in
// them, while the user's certificate has to be served also when it names something else.
//
// Keys are ECDSA on P-256. It is the one kind that RHEL in FIPS mode, every TLS 1.2 client and every browser
// accept and that signs a handshake in a fraction of what RSA costs. Ed25519 was refused: FIPS mode and older
// Java clients do not take it. A CA made elsewhere, with RSA as mirror-registry's, is used as it is.
package tlsgen
