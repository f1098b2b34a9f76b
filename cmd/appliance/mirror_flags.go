package main

import (
	"strconv"

	"github.com/spf13/pflag"
)

const (
	noProfile = "no profile is written"
	asIs      = "layers are copied as they are, since their digests are kept"
	noDaemon  = "images are copied from registry to registry"
	noCache   = "catalogs are filtered always, and opm makes its cache when it starts"
)

// foreignOCMirrorFlags are the flags of oc-mirror, v2 and v1, that are not built or change nothing.
var foreignOCMirrorFlags = []foreign{
	// what these turn off is not done here
	{ignoredSwitch, "v2 quiet,q force,f skip-cleanup", ""},
	{ignored, "cache-dir", "nothing is cached on the way"},
	{ignored, "port,p", "no port is opened on the way"},
	{ignored, "rootless-storage-path", "no container storage is used"},
	{ignored, "retry-delay", "the wait between two attempts doubles, and a registry that says how long to wait is heeded"},
	// of 4.16 and 4.17, where they had other bounds
	{ignored, "max-parallel-downloads", "--parallel-images and --parallel-layers limit it"},
	{ignored, "parallel-batch-images", "--parallel-images limits it"},
	{ignoredSwitch, "cpu-prof mem-prof", noProfile},

	{aliasSwitch, "v1", ""}, // see loadImageSet

	// of v2 from skopeo, hidden as there
	{alias, "tls-verify", "--src-tls-verify and --dest-tls-verify"},
	{ignored, "src-shared-blob-dir src-daemon-host dest-shared-blob-dir dest-daemon-host", noDaemon},
	{ignored, "dest-compress-format dest-compress-level", asIs},
	{ignoredSwitch, "dest-compress dest-decompress dest-oci-accept-uncompressed-layers dest-precompute-digests", asIs},

	// of v1 only
	{aliasSwitch, "source-skip-tls source-use-http", "--src-tls-verify=false"},
	{aliasSwitch, "dest-skip-tls dest-use-http", "--dest-tls-verify=false"},
	{aliasSwitch, "manifests-only", "--dry-run"},
	{alias, "dir,d", "--workspace file://DIR"},
	{ignoredSwitch, "continue-on-error skip-missing", "an image that fails does not stop the others"},
	{ignoredSwitch, "ignore-history", "what is copied is what the destination lacks"},
	{aliasSwitch, "skip-metadata-check skip-pruning", ""}, // see goOn
	{ignoredSwitch, "skip-verification", "digests are always verified"},
	{ignoredSwitch, "skip-image-pin", "the reference in the file is the one that is mirrored"},
	{ignoredSwitch, "rebuild-catalogs build-catalog-cache", noCache},
	{ignoredSwitch, "oci-insecure-signature-policy", "only --secure-policy verifies catalogs"},
	{aliasSwitch, "enable-operator-secure-policy", "--secure-policy"},
	{ignored, "max-per-registry", "--parallel-images and --parallel-layers limit it"},
	{alias, "oci-registries-config", "CONTAINERS_REGISTRIES_CONF, for all sources"},
}

// readAliases sets what the older names of flags mean, unless the newer names say otherwise.
func (o *mirrorOptions) readAliases(f *pflag.FlagSet) error {
	unless := func(newer string, set func()) {
		if !f.Changed(newer) {
			set()
		}
	}
	if f.Changed("tls-verify") {
		verify, err := strconv.ParseBool(f.Lookup("tls-verify").Value.String())
		if err != nil {
			return wrongValue(&pflag.Flag{Name: "tls-verify", Value: f.Lookup("src-tls-verify").Value}, f.Lookup("tls-verify").Value.String(), err)
		}
		unless("src-tls-verify", func() { o.srcVerify = verify })
		unless("dest-tls-verify", func() { o.destVerify = verify })
	}
	if isSet(f, "source-skip-tls") || isSet(f, "source-use-http") {
		unless("src-tls-verify", func() { o.srcVerify = false })
	}
	if isSet(f, "dest-skip-tls") || isSet(f, "dest-use-http") {
		unless("dest-tls-verify", func() { o.destVerify = false })
	}
	o.secure = o.secure || isSet(f, "enable-operator-secure-policy")
	o.registriesConf = f.Lookup("oci-registries-config").Value.String()
	if isSet(f, "manifests-only") {
		o.dryRun = true
	}
	if f.Changed("dir") && len(o.from) == 0 {
		unless("workspace", func() { o.workspace = "file://" + f.Lookup("dir").Value.String() })
	}
	return nil
}

// isSet reports whether a switch was given, and not with =false.
func isSet(f *pflag.FlagSet, name string) bool {
	return f.Changed(name) && f.Lookup(name).Value.String() == "true"
}
