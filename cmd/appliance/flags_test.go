package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Flags of the programs we replace, as their sources declare them: a name, its shorthand if it has
// one, and = where it takes a value.
const (
	mirrorRegistryFlags = "verbose,v no-color,c targetHostname,H= targetUsername,u= ssh-key,k= askBecomePass additionalArgs= quayRoot,r= quayStorage= sqliteStorage= "
	installFlags        = mirrorRegistryFlags + "sslCert= sslKey= sslCheckSkip initUser= initPassword= quayHostname= image-archive,i= version"
	uninstallFlags      = mirrorRegistryFlags + "autoApprove version"

	skopeoFlags = "src-creds= src-username= src-password= src-registry-token= src-cert-dir= src-tls-verify src-no-creds src-authfile= src-shared-blob-dir= " +
		"src-daemon-host= dest-creds= dest-username= dest-password= dest-registry-token= dest-cert-dir= dest-tls-verify dest-no-creds dest-authfile= " +
		"dest-shared-blob-dir= dest-daemon-host= screds= dcreds= tls-verify dest-compress dest-decompress dest-compress-format= dest-compress-level= " +
		"dest-oci-accept-uncompressed-layers dest-precompute-digests "
	ocMirrorV1Flags = "verbose,v= dir,d= v1 manifests-only source-skip-tls dest-skip-tls source-use-http dest-use-http skip-cleanup ignore-history " +
		"skip-metadata-check skip-missing skip-pruning skip-verification skip-image-pin continue-on-error max-per-registry= oci-registries-config= " +
		"oci-insecure-signature-policy enable-operator-secure-policy rebuild-catalogs build-catalog-cache "
	ocMirrorFlags = skopeoFlags + ocMirrorV1Flags + "config,c= cache-dir= log-level= loglevel= workspace= port,p= v2 parallel-layers= parallel-images= " +
		"cpu-prof mem-prof registries.d= policy= authfile= retry-times= retry-delay= from= dry-run dry-run-manifest-lists since= image-timeout= " +
		"secure-policy max-nested-paths= strict-archive rootless-storage-path= remove-signatures ignore-release-signature signature-verification= quiet,q force,f max-parallel-downloads= parallel-batch-images="
	deleteFlags = ocMirrorFlags + " delete-id= delete-yaml-file= force-cache-delete generate delete-signatures delete-v1-images"
)

// findCommand is a command of ours with the flags that it has once it runs.
func findCommand(t *testing.T, words ...string) *cobra.Command {
	t.Helper()
	root := newRootCommand(stdio{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}})
	c, rest, err := root.Find(words)
	if err != nil || len(rest) > 0 {
		t.Fatalf("there is no command %q: %v", words, err)
	}
	c.InitDefaultVersionFlag()
	return c
}

// Spec: oc-mirror 1.3, 1.4, 1.5, 1.11, 9.1.
func TestFlags_ofMirrorRegistryAndOCMirrorAreKnown(t *testing.T) {
	for command, flags := range map[string]string{"install": installFlags, "uninstall": uninstallFlags, "mirror": ocMirrorFlags, "version": "output,o= short v2",
		"delete": deleteFlags, "list releases": ocMirrorFlags} {
		f := findCommand(t, strings.Fields(command)...).Flags()
		for _, flag := range strings.Fields(flags) {
			flag, value := strings.CutSuffix(flag, "=")
			name, short, _ := strings.Cut(flag, ",")
			known := f.Lookup(name)
			if known == nil {
				t.Errorf("%s does not know --%s", command, name)
				continue
			}
			if known.Shorthand != short && short != "" {
				t.Errorf("%s knows --%s as -%s, not as -%s", command, name, known.Shorthand, short)
			}
			if takes := known.NoOptDefVal == ""; takes != value {
				t.Errorf("%s --%s takes a value: %v, want %v", command, name, takes, value)
			}
		}
	}
}

func TestFlags_inOtherSpellings(t *testing.T) {
	f := findCommand(t, "install").Flags()
	for spelling, want := range map[string]string{
		"quay-hostname": "quayHostname", "quay-root": "quayRoot", "sqlite-storage": "sqliteStorage", "init-password": "initPassword",
		"ssl-check-skip": "sslCheckSkip", "sshKey": "ssh-key", "imageArchive": "image-archive", "dry-run": "dry-run",
	} {
		if flag := f.Lookup(spelling); flag == nil || flag.Name != want {
			t.Errorf("--%s is %v, want --%s", spelling, flag, want)
		}
	}
}

// Each flag is refused by its name, or does what it says; what is refused never reads as mistyped.
func TestFlags_unbuiltAreRefusedByName(t *testing.T) {
	o := &foreignFlags{}
	c := &cobra.Command{Use: "mirror"}
	o.declare(c.Flags(), foreignOCMirrorFlags)
	for _, row := range *o {
		if row.kind != refused && row.kind != refusedSwitch {
			continue
		}
		name := row.names
		c := &cobra.Command{Use: "mirror", SilenceUsage: true, SilenceErrors: true}
		o := &foreignFlags{}
		o.declare(c.Flags(), foreignOCMirrorFlags)
		c.RunE = func(c *cobra.Command, _ []string) error { return o.check(c, &bytes.Buffer{}) }
		flag := "--" + name
		if c.Flags().Lookup(name).NoOptDefVal == "" {
			flag += "=s3cret"
		}
		c.SetArgs([]string{flag})
		err := c.Execute()
		hint := hintOf(err)
		if err == nil || err.Error() != "--"+name+" is not built yet" || hint == "" || strings.Contains(hint, "s3cret") {
			t.Errorf("%s: %v, hint %q", flag, err, hint)
		}
	}
}

// A path means the same in every command: each flag that takes one goes through pathVar.
func TestFlags_pathsKnowTheHomeDirectory(t *testing.T) {
	t.Setenv("HOME", "/somewhere")
	paths := []string{"config", "quayRoot", "quayStorage", "sqliteStorage", "workspace", "from", "have", "authfile", "src-cert-dir", "dest-cert-dir"}
	seen := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, name := range paths {
			f := c.Flags().Lookup(name)
			if f == nil || name == "from" && strings.Contains(f.Usage, "version of") { // of a cluster
				continue
			}
			seen++
			if err := f.Value.Set("~/x"); err != nil || f.Value.String() != "/somewhere/x" {
				t.Errorf("%s --%s=~/x is %s, %v", c.CommandPath(), name, f.Value, err)
			}
			if err := f.Value.Set("file://~/x"); err != nil || f.Value.String() != "file:///somewhere/x" {
				t.Errorf("%s --%s=file://~/x is %s, %v", c.CommandPath(), name, f.Value, err)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRootCommand(stdio{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}}))
	if seen < 20 {
		t.Errorf("only %d flags were found", seen)
	}
}
