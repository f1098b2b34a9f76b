package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	admin "github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

const (
	subjectName = "appliance"
	coldPrefix  = "upstream" // of the repositories that the subject pulls through
)

// handedListener is the listener that startSelf gives to this process.
func handedListener() (net.Listener, error) {
	f := os.NewFile(3, "listener")
	defer f.Close()
	return net.FileListener(f)
}

// newSubjectCommand is the daemon itself, whole, as serve runs it under systemd: with its access log, as text and without
// a time, which goes to a file.
func newSubjectCommand() *cobra.Command {
	var profile, upstream string
	cmd := &cobra.Command{
		Use: "subject SITE ROOT", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openSite(args[0])
			if err != nil {
				return err
			}
			l, err := handedListener()
			if err != nil {
				return err
			}
			end, err := profileTo(profile)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: plain.Attr}))
			access, written := registry.NewAccessLog(os.Stderr, "text", false)
			err = registry.Run(cmd.Context(), withUpstream(subjectConfig(s, args[1]), upstream), registry.Options{
				Log: log, AccessLog: access, Listeners: []net.Listener{l}, Version: "bench",
			})
			return errors.Join(err, written(), end())
		},
	}
	cmd.Flags().StringVar(&profile, "profile", "", "file for a CPU profile")
	cmd.Flags().StringVar(&upstream, "upstream", "", "registry to pull through from")
	return cmd
}

func profileTo(path string) (end func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, pprof.StartCPUProfile(f)
}

func subjectConfig(s *site, root string) *config.Config {
	c := config.Default(root)
	c.Hostname = hostname
	c.GC.Interval = 0 // collection runs when a row says so
	c.TLS = config.TLS{Certificate: s.cert(), Key: s.key(), CA: s.ca(), State: c.TLS.State}
	c.ControlSocket = filepath.Join(root, "s")
	return c
}

// withUpstream has the daemon pull through below coldPrefix.
func withUpstream(c *config.Config, upstream string) *config.Config {
	if upstream != "" {
		c.Upstreams = []config.Upstream{{Prefix: coldPrefix, URL: upstream}}
	}
	return c
}

// startSubject starts the daemon over a directory of its own under the site, keeping what is in there.
func (b *bench) startSubject(ctx context.Context, name string, flags ...string) (*server, *admin.Client, error) {
	root := b.site.path(name)
	c := subjectConfig(b.site, root)
	for _, dir := range []string{c.Storage, filepath.Dir(c.Database), c.TLS.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, err
		}
	}
	args := append([]string{"subject", b.site.dir, root}, flags...)
	if b.profile != "" {
		args = append(args, "--profile", filepath.Join(b.profile, name+".prof"))
	}
	srv, err := startSelf(ctx, b.site, name, basic, args...)
	if err != nil {
		return nil, nil, err
	}
	control := admin.NewUnix(c.ControlSocket)
	_, err = control.CreateUser(ctx, api.NewUser{Name: user, Role: "admin", Password: password})
	var refused *admin.Refused
	if err != nil && !(errors.As(err, &refused) && refused.Status == 409) {
		return nil, nil, errors.Join(err, srv.stop())
	}
	return srv, control, nil
}
