package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// applianceOptions are which appliance a command is about: the one of this host, or another that is
// named docker://HOST:PORT.
type applianceOptions struct {
	locateOptions
	login       credentials
	authFile    string
	destVerify  bool
	destCertDir string
}

func (o *applianceOptions) addFlags(f *pflag.FlagSet) {
	o.locateOptions.addFlags(f)
	o.login.addFlags(f, "dest", "dcreds")
	pathVar(f, &o.authFile, "authfile", "", "registry logins (default $REGISTRY_AUTH_FILE, then where podman login and docker login put them)")
	f.BoolVar(&o.destVerify, "dest-tls-verify", true, "verify the appliance's certificate")
	pathVar(f, &o.destCertDir, "dest-cert-dir", "", "directory of *.crt to trust for the appliance (default the usual certs.d directories)")
}

// ask calls f with a client of the appliance. As the user of the login that client may make only
// the calls which that may.
func (o *applianceOptions) ask(ctx context.Context, std stdio, args []string, f func(*client.Client) error) error {
	if len(args) == 0 {
		o.existing = true
		return withControl(ctx, std, &o.locateOptions, f)
	}
	if !strings.HasPrefix(args[0], "docker://") {
		return hint.New(fmt.Errorf("%q is not an appliance", args[0]), "docker://HOST:PORT")
	}
	address, prefix, err := mirror.ParseDestination(args[0])
	if err != nil {
		return err
	}
	keys, err := o.login.keychain(o.authFile)
	if err != nil {
		return err
	}
	login, err := loginFor(keys, address, prefix)
	if err != nil {
		return err
	}
	files, err := upstream.TrustFiles(o.destCertDir, address)
	if err != nil {
		return err
	}
	trust, err := upstream.TLSConfig(files, !o.destVerify)
	if err != nil {
		return err
	}
	control := client.NewHTTPS(address, login.Username, login.Password, trust)
	defer control.Close()
	return f(control)
}

type resourcesOptions struct {
	applianceOptions
	output string
}

func newResourcesCommand(std stdio) *cobra.Command {
	var o resourcesOptions
	c := &cobra.Command{
		Use:   "resources [docker://HOST:PORT] [-o DIR|-|json]",
		Short: "Write the cluster resources of all that an appliance mirrors",
		Long: `Write the resources of all image sets that were mirrored into an appliance: of the one on this host, or of another,
as a user of any role. They are what https://HOST:PORT/mirror/cluster-resources/ serves. Without -o they are listed.

In a directory, files of earlier resources that are not among them any more are removed; files of others stay.`,
		Example: `  appliance mirror resources -o cluster-resources
  appliance mirror resources docker://registry.example.com:8443 -o - | oc apply -f -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runResources(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	c.Flags().StringVarP(&o.output, "output", "o", "", "a directory; - for standard output; json for scripts, with the content of the files")
	return c
}

func runResources(ctx context.Context, std stdio, o resourcesOptions, args []string) error {
	var files []api.Resource
	err := o.ask(ctx, std, args, func(control *client.Client) (err error) {
		files, err = control.Resources(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name != filepath.Base(f.Name) || f.Name == ".." || f.Name == "." {
			return fmt.Errorf("the appliance names a file %q, which is not a name for a file", f.Name)
		}
	}
	switch o.output {
	case "":
		return listResources(std.out, files)
	case "json":
		return printJSON(std.out, files)
	case "-":
		return concatenate(std.out, files)
	}
	if len(files) == 0 {
		return hint.New(errors.New("the appliance has no cluster resources: nothing was mirrored into it"), "appliance mirror -c imageset.yaml …")
	}
	return writeResourcesInto(std.out, o.output, files)
}

func listResources(w io.Writer, files []api.Resource) error {
	if len(files) == 0 {
		fmt.Fprintln(w, "no cluster resources: nothing was mirrored into this appliance")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tBYTES\tDIGEST")
	for _, f := range files {
		fmt.Fprintf(t, "%s\t%d\t%s\n", plain.Line(f.Name), f.Size, f.Digest)
	}
	return t.Flush()
}

// concatenate prints what oc apply -f - takes. What is there as JSON is there as YAML too.
func concatenate(w io.Writer, files []api.Resource) error {
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".json") {
			continue
		}
		text := f.Data
		if !strings.HasPrefix(text, "---\n") {
			text = "---\n" + text
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

func writeResourcesInto(w io.Writer, dir string, files []api.Resource) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, f := range files {
		names[f.Name] = true
		path := filepath.Join(dir, f.Name)
		if err := replaceFile(path, []byte(f.Data)); err != nil {
			return err
		}
		fmt.Fprintln(w, path)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if names[e.Name()] || !e.Type().IsRegular() || !isOurs(path) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		fmt.Fprintf(w, "removed %s, which is not among them any more\n", path)
	}
	return nil
}

// isOurs reports whether a file is a cluster resource that this program has written.
func isOurs(path string) bool {
	if !slices.Contains([]string{".yaml", ".json"}, filepath.Ext(path)) {
		return false
	}
	text, err := os.ReadFile(path)
	return err == nil && (bytes.Contains(text, []byte("createdBy: appliance")) || bytes.Contains(text, []byte(`"createdBy":"appliance"`)))
}
