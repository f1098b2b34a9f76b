package main

const (
	useAuthfile = "log in with podman login, and name the file with --authfile"
	useVerify   = "use --src-tls-verify and --dest-tls-verify"
	noProfile   = "no profile is written"
)

// foreignOCMirrorFlags are the flags of oc-mirror, v2 and v1, that are not built or change nothing.
var foreignOCMirrorFlags = []foreign{
	// what these turn off is not done here
	{ignoredSwitch, "v2 quiet,q force,f remove-signatures ignore-release-signature skip-cleanup", ""},
	{ignored, "cache-dir", "nothing is cached on the way"},
	{ignored, "port,p", "no port is opened on the way"},
	{ignored, "rootless-storage-path", "no container storage is used"},
	{ignored, "image-timeout", "a request without progress ends by itself"},
	{ignoredSwitch, "cpu-prof mem-prof", noProfile},

	{refusedSwitch, "v1", "leave it out: a configuration for oc-mirror v1 works once its apiVersion is mirror.openshift.io/v2alpha1 and storageConfig is gone"},
	{refusedSwitch, "dry-run-manifest-lists secure-policy", ""},
	{refused, "max-nested-paths registries.d policy retry-delay", ""},

	// of v2 from skopeo, hidden as there
	{refused, "screds dcreds", useAuthfile},
	{refused, "src-creds src-username src-password src-registry-token src-authfile", useAuthfile},
	{refused, "dest-creds dest-username dest-password dest-registry-token dest-authfile", useAuthfile},
	{refused, "tls-verify", useVerify},
	{refusedSwitch, "src-no-creds dest-no-creds", ""},
	{refused, "src-shared-blob-dir src-daemon-host dest-shared-blob-dir dest-daemon-host dest-compress-format dest-compress-level", ""},
	{refusedSwitch, "dest-compress dest-decompress dest-oci-accept-uncompressed-layers dest-precompute-digests", ""},

	// of v1 only
	{refusedSwitch, "source-skip-tls source-use-http", "use --src-tls-verify=false"},
	{refusedSwitch, "dest-skip-tls dest-use-http", "use --dest-tls-verify=false"},
	{refusedSwitch, "continue-on-error", "leave it out: an image that fails does not stop the others"},
	{refusedSwitch, "manifests-only", "use --dry-run"},
	{refusedSwitch, "ignore-history skip-metadata-check skip-missing skip-pruning skip-verification skip-image-pin", ""},
	{refusedSwitch, "oci-insecure-signature-policy enable-operator-secure-policy rebuild-catalogs build-catalog-cache", ""},
	{refused, "dir,d", "use --workspace file://DIR"},
	{refused, "max-per-registry", "use --parallel-images and --parallel-layers"},
	{refused, "oci-registries-config", ""},
}
