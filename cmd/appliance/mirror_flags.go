package main

import "github.com/spf13/pflag"

// addOCMirrorFlags declares the flags of oc-mirror, v2 and v1, that are not built or have nothing to do here.
func addOCMirrorFlags(o *foreignFlags, f *pflag.FlagSet) {
	o.acceptSwitch(f, "v2", "")
	for _, name := range []string{"quiet,q", "force,f", "remove-signatures", "ignore-release-signature", "skip-cleanup"} {
		o.acceptSwitch(f, name, "") // what they turn off is not done here
	}
	o.accept(f, "cache-dir", "nothing is cached on the way")
	o.accept(f, "port,p", "no port is opened on the way")
	o.accept(f, "rootless-storage-path", "no container storage is used")
	o.accept(f, "image-timeout", "a request without progress ends by itself")
	o.acceptSwitch(f, "cpu-prof", "no profile is written")
	o.acceptSwitch(f, "mem-prof", "no profile is written")

	o.addSwitches(f, "v1", "dry-run-manifest-lists", "strict-archive", "secure-policy")
	o.add(f, "since", "max-nested-paths", "registries.d", "policy", "retry-delay")
	o.instead("v1", "leave it out: a configuration for oc-mirror v1 works once its apiVersion is mirror.openshift.io/v2alpha1 and storageConfig is gone")
	addSkopeoFlags(o, f)
	addOCMirrorV1Flags(o, f)
}

// addSkopeoFlags declares those that oc-mirror v2 has from skopeo, hidden as there.
func addSkopeoFlags(o *foreignFlags, f *pflag.FlagSet) {
	const (
		logins = "log in with podman login, and name the file with --authfile"
		verify = "use --src-tls-verify and --dest-tls-verify"
	)
	o.add(f, "screds", "dcreds", "tls-verify")
	f.Lookup("tls-verify").NoOptDefVal = "true"
	o.instead("tls-verify", verify)
	for _, prefix := range []string{"src-", "dest-"} {
		for _, name := range []string{"creds", "username", "password", "registry-token", "authfile"} {
			o.add(f, prefix+name)
			o.instead(prefix+name, logins)
		}
		o.addSwitches(f, prefix+"no-creds")
		o.add(f, prefix+"shared-blob-dir", prefix+"daemon-host")
	}
	o.instead("screds", logins)
	o.instead("dcreds", logins)
	o.addSwitches(f, "dest-compress", "dest-decompress", "dest-oci-accept-uncompressed-layers", "dest-precompute-digests")
	o.add(f, "dest-compress-format", "dest-compress-level")
}

// addOCMirrorV1Flags declares those that only oc-mirror v1 has.
func addOCMirrorV1Flags(o *foreignFlags, f *pflag.FlagSet) {
	o.addSwitches(f, "manifests-only", "source-skip-tls", "dest-skip-tls", "source-use-http", "dest-use-http", "ignore-history",
		"skip-metadata-check", "skip-missing", "skip-pruning", "skip-verification", "skip-image-pin", "continue-on-error",
		"oci-insecure-signature-policy", "enable-operator-secure-policy", "rebuild-catalogs", "build-catalog-cache")
	o.add(f, "dir,d", "max-per-registry", "oci-registries-config")
	for name, hint := range map[string]string{
		"source-skip-tls": "use --src-tls-verify=false", "source-use-http": "use --src-tls-verify=false",
		"dest-skip-tls": "use --dest-tls-verify=false", "dest-use-http": "use --dest-tls-verify=false",
		"dir": "use --workspace file://DIR", "max-per-registry": "use --parallel-images and --parallel-layers",
		"continue-on-error": "leave it out: an image that fails does not stop the others",
		"manifests-only":    "use --dry-run",
	} {
		o.instead(name, hint)
	}
}
