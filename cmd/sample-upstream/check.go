package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"
)

type checkOptions struct {
	registry      string
	ca            string
	user          string
	passwordStdin bool
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check --registry HOST:PORT --ca FILE [--user NAME --password-stdin] [REPOSITORY:TAG DIGEST]",
		Short: "Pull an image through TLS and verify its digest and every blob",
		Long: "Pull an image through TLS, all architectures, and verify that it has this digest and\n" +
			"that every blob has its own. Without an image: only that the registry answers to this login.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return errors.New("check takes an image and its digest, or neither")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newChecker(cmd.Context(), o, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.ping()
			}
			return c.check(cmd.OutOrStdout(), args[0], args[1])
		},
	}
	cmd.Flags().StringVar(&o.registry, "registry", "localhost:8443", "registry to pull from")
	cmd.Flags().StringVar(&o.ca, "ca", "", "PEM file of the only CA to trust (default: the system's)")
	cmd.Flags().StringVar(&o.user, "user", "", "user to log in as (default: anonymous)")
	cmd.Flags().BoolVar(&o.passwordStdin, "password-stdin", false, "read the user's password from standard input")
	cmd.MarkFlagsRequiredTogether("user", "password-stdin")
	return cmd
}

// A checker pulls images and counts the verified blobs.
type checker struct {
	ctx       context.Context
	registry  name.Registry
	auth      authn.Authenticator
	transport http.RoundTripper
	blobs     map[v1.Hash]int64
}

func newChecker(ctx context.Context, o checkOptions, in io.Reader) (*checker, error) {
	registry, err := name.NewRegistry(o.registry)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, fmt.Errorf("read the CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the CA: no certificate in %s", o.ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	auth := authn.Anonymous
	if o.passwordStdin {
		password, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		auth = &authn.Basic{Username: o.user, Password: strings.TrimRight(string(password), "\r\n")}
	}
	return &checker{ctx: ctx, registry: registry, auth: auth, transport: transport, blobs: map[v1.Hash]int64{}}, nil
}

func (c *checker) ping() error {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "https://"+c.registry.Name()+"/v2/", nil)
	if err != nil {
		return err
	}
	if cfg, err := c.auth.Authorization(); err != nil {
		return err
	} else if cfg.Username != "" {
		req.SetBasicAuth(cfg.Username, cfg.Password)
	}
	resp, err := (&http.Client{Transport: c.transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return nil
}

func (c *checker) check(out io.Writer, ref, want string) error {
	repo, tag, _ := strings.Cut(ref, ":")
	image, err := name.NewTag(c.registry.Name() + "/" + repo + ":" + tag)
	if err != nil {
		return err
	}
	d, err := remote.Get(image, remote.WithContext(c.ctx), remote.WithAuth(c.auth), remote.WithTransport(c.transport))
	if err != nil {
		return fmt.Errorf("pull %s: %w", image, err)
	}
	if d.Digest.String() != want {
		return fmt.Errorf("%s is %s, not %s", image, d.Digest, want)
	}
	if d.MediaType.IsIndex() {
		err = c.index(d.ImageIndex())
	} else {
		err = c.image(d.Image())
	}
	if err != nil {
		return fmt.Errorf("pull %s: %w", image, err)
	}
	var size int64
	for _, n := range c.blobs {
		size += n
	}
	_, err = fmt.Fprintf(out, "%s is %s; verified %d blobs, %d bytes\n", image, d.Digest, len(c.blobs), size)
	return err
}

func (c *checker) index(idx v1.ImageIndex, err error) error {
	if err != nil {
		return err
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, m := range manifest.Manifests {
		if m.MediaType.IsIndex() {
			err = c.index(idx.ImageIndex(m.Digest))
		} else {
			err = c.image(idx.Image(m.Digest))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) image(img v1.Image, err error) error {
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile() // verified as it is read
	if err != nil {
		return err
	}
	c.blobs[manifest.Config.Digest] = int64(len(config))
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if err := c.layer(layer); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) layer(layer v1.Layer) error {
	d, err := layer.Digest()
	if err != nil {
		return err
	}
	if _, done := c.blobs[d]; done {
		return nil
	}
	r, err := layer.Compressed() // verified as it is read
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	c.blobs[d] = n
	return nil
}
