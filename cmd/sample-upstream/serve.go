package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

type serveOptions struct {
	listen    string
	readyFile string
	keyFile   string
	fail      int // percent of the registry's requests
}

// serve serves until ctx ends.
func serve(ctx context.Context, out io.Writer, o serveOptions) error {
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	defer listener.Close()
	if ip := listener.Addr().(*net.TCPAddr).IP; ip.IsUnspecified() {
		return fmt.Errorf("listen on %s: references in the content need one address, such as 127.0.0.1", o.listen)
	}
	host := listener.Addr().String()
	content, err := sample.New(host)
	if err != nil {
		return err
	}
	if o.keyFile != "" {
		if err := os.WriteFile(o.keyFile, content.ReleaseKey(), 0o644); err != nil {
			return fmt.Errorf("write the key of the releases: %w", err)
		}
	}
	server := &http.Server{Handler: sample.Failing(content.Handler(), o.fail), ReadHeaderTimeout: 10 * time.Second}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", host, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(grace)
	})
	group.Go(func() error {
		describe(out, content)
		if o.readyFile == "" {
			return nil
		}
		return writeReady(o.readyFile, host)
	})
	return group.Wait()
}

// writeReady renames a complete file into place, so that a reader that waits for it
// never reads a part.
func writeReady(path, host string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".ready-*")
	if err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err := fmt.Fprintln(tmp, host); err != nil {
		return errors.Join(fmt.Errorf("write ready file: %w", err), tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return nil
}

// describe prints what is served and how to try it.
func describe(out io.Writer, c *sample.Content) {
	fmt.Fprintf(out, "sample upstream on http://%s\n\nimages:\n", c.Host())
	for _, repo := range c.Repositories() {
		tags := c.Tags(repo)
		if len(tags) == 0 {
			fmt.Fprintf(out, "  %s (by digest only)\n", repo)
		}
		for _, tag := range tags {
			fmt.Fprintf(out, "  %s:%s\n", repo, tag)
		}
	}
	fmt.Fprintf(out, `
also:
  update graph      http://%[1]s%[2]s?channel=stable-4.18&arch=amd64
  graph data        http://%[1]s%[3]s
  signatures        http://%[1]s%[5]s, by the key http://%[1]s%[6]s
  chart repository  http://%[1]s%[4]s

try:
  curl -s 'http://%[1]s%[2]s?channel=stable-4.18'
  skopeo inspect --tls-verify=false docker://%[1]s/samples/oci:v1
  curl -so key.asc http://%[1]s%[6]s
  OCP_SIGNATURE_VERIFICATION_PK=key.asc OCP_SIGNATURE_URL=http://%[1]s%[5]s \
    UPDATE_URL_OVERRIDE=http://%[1]s%[2]s appliance mirror -c ISC --src-tls-verify=false docker://HOST:PORT --workspace file://DIR
`, c.Host(), sample.GraphPath, sample.GraphDataPath, sample.ChartsPath,
		sample.SignaturesPath, sample.SignatureKeyPath)
}
