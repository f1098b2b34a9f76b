package api

import "time"

// Certificate is the certificate that is served.
type Certificate struct {
	CertificateInfo
	Renews bool   `json:"renews"`         // by itself; else it is the user's own
	ACME   string `json:"acme,omitempty"` // directory of the server that is asked for certificates
	// Issued is whether that server has issued what is served; else it is one of the appliance's CA meanwhile.
	Issued bool   `json:"acmeIssued,omitempty"`
	File   string `json:"file"`
	Key    string `json:"keyFile"`
	CAFile string `json:"caFile,omitempty"`
	// CA are the authorities that clients are given, more than one while the CA is rotated.
	CA      []Authority `json:"ca,omitempty"`
	Trouble []Trouble   `json:"trouble,omitempty"`
}

// Authority is a CA that clients are given.
type Authority struct {
	CertificateInfo
	Signs bool `json:"signs"` // it has signed the certificate that is served
}

// CertificateInfo is what a certificate says.
type CertificateInfo struct {
	Subject     string    `json:"subject"`
	Names       []string  `json:"names,omitempty"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"` // hexadecimal, as openssl prints it
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	DaysLeft    int       `json:"daysLeft"` // negative after the end
	Fingerprint string    `json:"fingerprint"`
}
