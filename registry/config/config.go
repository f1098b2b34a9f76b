// Package config is the appliance's config.yaml: its types, its defaults, and a strict reader.
//
// [Load] reads a file, [Default] is what install starts from, [Config.Marshal] writes it with
// comments. The comments exist once, in sample.yaml: Marshal puts values into that text.
//
// A table of keys (keys.go) decodes the yaml nodes, so that every problem has the file, the line,
// the key and the remedy. Refused: struct tags, whose messages name Go types, and environment
// variables, which override the file.
package config

import (
	_ "embed"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// Defaults of the keys that may be left out.
const (
	defaultPort        = 8443
	defaultMinFree     = Size(1 << 30)
	defaultGCInterval  = 24 * time.Hour
	defaultGracePeriod = time.Hour
	defaultSync        = 24 * time.Hour
	// A scrub at this rate reads a terabyte in less than a day, and leaves a disk most of its time.
	defaultScrubInterval = 30 * 24 * time.Hour
	defaultScrubRate     = Size(20 << 20)
)

// DefaultFreshness is the Freshness of an upstream that has none.
const DefaultFreshness = 5 * time.Minute

// Config is what config.yaml says. All paths are absolute.
type Config struct {
	Hostname           string     // DNS name that clusters use, without a port
	Port               int        // port that clusters use
	Listen             string     // address to listen on; not used when systemd passes sockets
	Storage            string     // directory of the blobs, or an address of S3
	StorageCredentials string     // file of AWS; "": those of the environment
	StorageRedirect    bool       // clients get blobs from the bucket
	Database           string     // the SQLite file; with DatabaseServer it does not exist, and its directory is the daemon's
	SharedKey          string     // file with the key of the daemons of one database and bucket; "": there is one daemon
	ControlSocket      string     // unix socket of the control API
	TLS                TLS        // certificates
	Upstreams          []Upstream // registries to pull through
	GC                 GC         // collection
	AnonymousPull      []string   // patterns of repositories that may be pulled without a login
	OpenMetrics        bool       // /metrics needs no login from anywhere
	MinFree            Size       // bytes that pushes leave free; 0: as many as deleting needs
	PullQuota          Size       // bytes that pulled-through content may take; 0: all there are
	Scrub              Scrub      // reading everything again

	Sync     []Sync    // image sets to mirror from time to time
	Catalogs []Catalog // views of operator catalogs

	Updates Updates // the update service

	ServeHeldDigests bool // what one repository has is served by its digest under another, to users who may read both

	DeleteReferrers bool // signatures and other referrers of what is deleted go with it

	server string // see DatabaseServer
}

// Size is a number of bytes, written like 10GiB.
type Size int64

// Scrub says when every blob is read again, and how fast.
type Scrub struct {
	Interval time.Duration // 0: never by itself
	Rate     Size          // bytes a second
}

// TLS names the files of the certificates.
type TLS struct {
	Certificate string // PEM chain that is served
	Key         string // its key
	CA          string // certificate of the CA; "" if clients know it already
	CAKey       string // key of the CA; "" if the user brings certificate and key
	State       string // directory for what the CA issued; needed with CAKey
	ACME        ACME   // a server that issues the certificate for the hostname
}

// ACME names a server of RFC 8555. The appliance's CA signs until that has issued a certificate, and
// for localhost.
type ACME struct {
	Directory string // https URL; "" for none
	CA        string // PEM bundle to trust for it; "" for the system's
	Email     string // of the account; "" for none
	KeyID     string // of an external account binding; "" for none
	KeyFile   string // file with its MAC key, base64url; needed with KeyID
}

// Upstream maps a prefix of repository names to another registry, or several hosts each to the prefix
// of its name.
type Upstream struct {
	Prefix    string        // path of repository names, such as quay.io; "" with Hosts
	URL       string        // http(s)://host[:port][/path]; "" with Hosts
	Hosts     []string      // registries that are reached at https://HOST; see Config.Routes
	CA        string        // PEM bundle to trust for it; "" for the system's
	CertDir   string        // directory with *.crt, and *.cert with *.key, as podman's --cert-dir; "" for none
	AuthFile  string        // credentials as podman keeps them; "" for none
	Proxy     string        // http(s)://host[:port] of a proxy, ProxyNone, or "" for that of the environment
	Freshness time.Duration // for so long a tag is not asked for again

	Mode        Mode     // "" is ModeCache
	Concurrency int      // blobs fetched at a time, and likewise manifests; 0: the default
	Rate        Size     // bytes a second of all blobs together; 0: no bound
	Allow       []string // patterns of repositories at the upstream that may be fetched; none: all
	Deny        []string // patterns of those that may not
	Platforms   []string // os/arch[/variant] of an index that a pin fetches; none: all
}

// ProxyNone is the value of Upstream.Proxy by which no proxy is used.
const ProxyNone = "none"

// Mode is what is done for a repository of an upstream.
type Mode string

// The modes of an upstream.
const (
	ModeCache        Mode = "cache"         // what is not held is fetched and kept
	ModeMirroredOnly Mode = "mirrored-only" // nothing is fetched: what is held is served under its prefix and name
	ModeOff          Mode = "off"           // the entry is not in force
)

// Updates says how the update service answers clusters.
type Updates struct {
	Payloads string // which names releases have: PayloadsUpstream or PayloadsMirror
}

// The names that releases have in the answers of the update service.
const (
	PayloadsUpstream = "upstream" // as at their sources: nodes find them by the mirror sets of the cluster
	PayloadsMirror   = "mirror"   // as at this registry
)

// Sync is an image set that the daemon mirrors by itself.
type Sync struct {
	ImageSet  string        // file of the ImageSetConfiguration
	Workspace string        // directory of what runs keep and write besides images
	Interval  time.Duration // from a success to the next run
	AuthFile  string        // credentials for the sources as podman keeps them; "" for none
	Prefix    string        // path of repository names below which images are put; "" for none
}

// GC says when to collect.
type GC struct {
	Interval    time.Duration // 0: never by itself
	GracePeriod time.Duration // a blob touched within it is left alone
}

//go:embed sample.yaml
var sample []byte

// Path is where config.yaml lies under an install directory.
func Path(quayRoot string) string { return filepath.Join(quayRoot, "quay-config", "config.yaml") }

// Default returns the configuration of an install directory, without a hostname. Directories and
// files have mirror-registry's names, which scripts know, except the CA's key: containers/image
// takes every *.key in a directory of certificates for a client's, and rejects the directory
// without its *.cert.
func Default(quayRoot string) *Config {
	in := func(elem ...string) string { return filepath.Join(append([]string{quayRoot}, elem...)...) }
	c := minimal()
	c.Listen = listenOn(c.Port)
	c.Storage = in("quay-storage")
	c.Database = in("sqlite-storage", "appliance.db")
	c.ControlSocket = in("run", "appliance.sock")
	c.TLS = TLS{
		Certificate: in("quay-config", "ssl.cert"),
		Key:         in("quay-config", "ssl.key"),
		CA:          in("quay-rootCA", "rootCA.pem"),
		CAKey:       in("quay-rootCA", "rootCA-key.pem"),
		State:       in("tls-state"),
	}
	return c
}

// minimal returns the values of keys that a file leaves out, except listen, which follows the port.
func minimal() *Config {
	return &Config{
		Port: defaultPort,
		GC:   GC{Interval: defaultGCInterval, GracePeriod: defaultGracePeriod},

		MinFree: defaultMinFree,
		Scrub:   Scrub{Interval: defaultScrubInterval, Rate: defaultScrubRate},
		Updates: Updates{Payloads: PayloadsUpstream},
	}
}

func listenOn(port int) string { return ":" + strconv.Itoa(port) }

// Address returns host:port as in image references: the host alone if the port is that of https.
func (c *Config) Address() string {
	if c.Port == httpsPort {
		return c.Hostname
	}
	return net.JoinHostPort(c.Hostname, strconv.Itoa(c.Port))
}

// Addresses returns the ways to write Address: clients look up logins and certificates by the name
// in the image reference.
func (c *Config) Addresses() []string {
	if c.Port == httpsPort {
		return []string{c.Hostname, net.JoinHostPort(c.Hostname, strconv.Itoa(httpsPort))}
	}
	return []string{c.Address()}
}

const httpsPort = 443

// UpgradeMark returns the path of the file with which the installer tells the daemon that an upgrade may
// still be taken back.
func (c *Config) UpgradeMark() string { return filepath.Join(filepath.Dir(c.ControlSocket), "upgrade") }
