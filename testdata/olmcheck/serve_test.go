package olmcheck

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/archive"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/operator-framework/operator-registry/alpha/declcfg"
	"github.com/operator-framework/operator-registry/pkg/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// What the catalog of site.imageSet has.
const (
	wantPackages = "sample-database"
	wantBundles  = "stable sample-database.v1.1.0, stable sample-database.v1.2.0"
)

// A catalog that was filtered, and pulled from an appliance, starts in the clusters of both OLMs,
// with the CatalogSource that the run has written.
func TestOPM_servesWhatIsPulled(t *testing.T) {
	s, opm := newSite(t), opmProgram(t)
	const template = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nspec:\n  displayName: Sample\n  grpcPodConfig:\n    extractContent:\n      catalogDir: /configs\n"
	for name, text := range map[string]string{
		"OLM v0, the image":      "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\n",
		"OLM v0, extractContent": template,
		"OLM v0, with its cache": template + "      cacheDir: /tmp/cache\n",
	} {
		t.Run(name, func(t *testing.T) {
			source := s.source(t, text)
			packages, bundles, err := serve(t, opm, source.command(t, s.pull(t, source.Spec.Image)))
			if err != nil {
				t.Fatal(err)
			}
			if packages != wantPackages || bundles != wantBundles {
				t.Errorf("opm serves packages %s with bundles %s", packages, bundles)
			}
		})
	}
	t.Run("OLM v1", func(t *testing.T) {
		source := s.source(t, template)
		dir := unpack(t, s.pull(t, source.Spec.Image))
		found, err := declcfg.LoadFS(t.Context(), os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		var bundles []string
		for _, b := range found.Bundles {
			bundles = append(bundles, "stable "+b.Name)
		}
		slices.Sort(bundles)
		if got := strings.Join(bundles, ", "); len(found.Packages) != 1 || got != wantBundles {
			t.Errorf("catalogd has %d packages with bundles %s", len(found.Packages), got)
		}
		if err := opmTakes(t.Context(), os.DirFS(filepath.Join(dir, "configs"))); err != nil {
			t.Error(err)
		}
	})
	// An image that keeps the cache of the whole catalog does not start: the tests above can fail.
	t.Run("the original", func(t *testing.T) {
		ref, err := name.ParseReference(s.from+"/"+catalogName, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		image, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := serve(t, opm, catalogSource{}.command(t, image)); err == nil || !strings.Contains(err.Error(), "cache requires rebuild") {
			t.Errorf("with a stale cache opm ends with %v", err)
		}
	})
}

// catalogSource is what OLM v0 makes a pod of.
type catalogSource struct {
	Spec struct {
		Image         string `json:"image"`
		GrpcPodConfig struct {
			ExtractContent *struct {
				CatalogDir string `json:"catalogDir"`
				CacheDir   string `json:"cacheDir"`
			} `json:"extractContent"`
		} `json:"grpcPodConfig"`
	} `json:"spec"`
}

// command returns the arguments of opm in the pod, as OLM's registry reconciler has them: those of
// the image, or a directory that an init container has copied out of it. Paths are below the
// image's files, which are extracted here.
func (c catalogSource) command(t *testing.T, image v1.Image) []string {
	t.Helper()
	root := extract(t, image)
	if extract := c.Spec.GrpcPodConfig.ExtractContent; extract != nil {
		copied := t.TempDir()
		args := []string{"serve", copyOut(t, root, extract.CatalogDir, filepath.Join(copied, "catalog"))}
		if extract.CacheDir != "" {
			args = append(args, "--cache-dir="+copyOut(t, root, extract.CacheDir, filepath.Join(copied, "cache")))
		}
		return args
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	run := append(slices.Clone(config.Config.Entrypoint), config.Config.Cmd...)
	if len(run) == 0 || path.Base(run[0]) != "opm" {
		t.Fatalf("the image runs %v", run)
	}
	var args []string
	for _, word := range run[1:] {
		if at := strings.IndexByte(word, '/'); at >= 0 {
			word = word[:at] + root + word[at:]
		}
		args = append(args, word)
	}
	return args
}

// copyOut is what OLM's copy-content does, which fails for a directory that is not there.
func copyOut(t *testing.T, root, from, to string) string {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(filepath.Join(root, from))); err != nil {
		t.Fatalf("the init container does not end well: %v", err)
	}
	return to
}

// extract returns a directory with the files of an image.
func extract(t *testing.T, image v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	flat := mutate.Extract(image)
	defer flat.Close()
	for r := tar.NewReader(flat); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		file := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// unpack is what catalogd does: it applies the layers with a filter on the directory of the label,
// so that a whiteout beside that is not seen.
func unpack(t *testing.T, image v1.Image) string {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := path.Clean(strings.TrimPrefix(config.Config.Labels["operators.operatorframework.io.index.configs.v1"], "/"))
	filter := func(h *tar.Header) (bool, error) {
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		h.Mode |= 0o700
		h.PAXRecords = nil
		rel, err := filepath.Rel(want, path.Clean(strings.TrimPrefix(h.Name, "/")))
		return err == nil && rel != ".." && !strings.HasPrefix(rel, "../"), err
	}
	all, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, l := range all {
		body, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Apply(t.Context(), dir, body, archive.WithFilter(filter)); err != nil {
			t.Fatal(err)
		}
		body.Close()
	}
	return dir
}

// serve runs opm and returns what it answers: packages, and bundles with their channels. An opm that
// ends is an error.
func serve(t *testing.T, opm string, args []string) (packages, bundles string, err error) {
	t.Helper()
	port := freePort(t)
	ended := start(t, opm, append(args, "--port", port, "--pprof-addr=", "--termination-log", filepath.Join(t.TempDir(), "log"))...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	died := make(chan string, 1)
	go func() {
		select {
		case text := <-ended:
			died <- text
			cancel()
		case <-ctx.Done():
		}
	}()
	often := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: time.Second}, MinConnectTimeout: time.Second}
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)), grpc.WithConnectParams(often))
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	packages, bundles, err = ask(ctx, api.NewRegistryClient(conn))
	select {
	case text := <-died:
		return "", "", errors.New("opm " + strings.Join(args, " ") + ": " + text)
	default:
		return packages, bundles, err
	}
}

func ask(ctx context.Context, client api.RegistryClient) (packages, bundles string, err error) {
	names, err := client.ListPackages(ctx, &api.ListPackageRequest{})
	if err != nil {
		return "", "", err
	}
	all, err := received(names, func(p *api.PackageName) string { return p.Name })
	if err != nil {
		return "", "", err
	}
	stream, err := client.ListBundles(ctx, &api.ListBundlesRequest{})
	if err != nil {
		return "", "", err
	}
	listed, err := received(stream, func(b *api.Bundle) string { return b.ChannelName + " " + b.CsvName })
	return strings.Join(all, ", "), strings.Join(listed, ", "), err
}

func received[T any](from interface{ Recv() (*T, error) }, text func(*T) string) (all []string, err error) {
	for {
		got, err := from.Recv()
		if errors.Is(err, io.EOF) {
			slices.Sort(all)
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, text(got))
	}
}
