package registry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/pull"
)

const testedAtOnce = 8

// testLimit bounds the test of one upstream. Tests make it shorter.
var testLimit = time.Minute

// upstreamAdmin is what the control API does with the upstreams of a daemon.
type upstreamAdmin struct{ *daemon }

// List lists the upstreams in force.
func (a upstreamAdmin) List() []api.Upstream {
	all := []api.Upstream{}
	for _, s := range a.upstreams.inForce() {
		mode := s.of.Mode
		if mode == "" {
			mode = config.ModeCache
		}
		u := api.Upstream{Prefix: s.of.Prefix, URL: s.of.URL, Mode: string(mode), Login: s.of.AuthFile != "", Freshness: api.Duration(s.of.Freshness)}
		state, err := s.state()
		if u.State = state; err != nil {
			u.Trouble, u.Hint = err.Error(), hint.Of(err)
		}
		u.Counts = countsOf(a.upstreams.puller.StatsOf(s.of.Prefix))
		all = append(all, u)
	}
	return all
}

// countsOf sums up the requests of an upstream. What it lacks, or a client no longer wanted, has not failed.
func countsOf(s pull.Stats) api.UpstreamCounts {
	c := api.UpstreamCounts{Answers: s.Answers, Held: s.Held, Stale: s.Stale, Bytes: s.Bytes, Downloads: s.Downloads}
	for result, n := range s.Requests {
		c.Requests += n
		if result != "ok" && result != "absent" && result != "ended" {
			c.Failed += n
		}
	}
	return c
}

// Test asks upstreams, with connections and logins made anew: for an image, or for a login.
func (a upstreamAdmin) Test(ctx context.Context, q api.UpstreamTest) ([]api.UpstreamTested, error) {
	some, err := a.tested(q)
	if err != nil {
		return nil, err
	}
	all := make([]api.UpstreamTested, len(some))
	var g errgroup.Group
	g.SetLimit(testedAtOnce)
	for i, u := range some {
		g.Go(func() error {
			all[i] = a.test(ctx, u, q.Image)
			return nil
		})
	}
	_ = g.Wait() // each has its own error
	return all, ctx.Err()
}

// tested returns the upstreams that a test is about.
func (a upstreamAdmin) tested(q api.UpstreamTest) ([]config.Upstream, error) {
	all := a.upstreams.configured()
	if q.Image != "" {
		var best []config.Upstream
		for _, u := range all {
			if strings.HasPrefix(q.Image, u.Prefix+"/") && (len(best) == 0 || len(u.Prefix) > len(best[0].Prefix)) {
				best = []config.Upstream{u}
			}
		}
		if len(best) == 0 {
			return nil, admin.NoUpstream(q.Image+" is below no upstream", "name it as it is pulled here, without the host: quay.io/org/image:v1; appliance upstream list")
		}
		return best, nil
	}
	for _, p := range q.Prefixes {
		if !slices.ContainsFunc(all, func(u config.Upstream) bool { return u.Prefix == p }) {
			return nil, admin.NoUpstream("there is no upstream "+p+" in force", "appliance upstream list shows them; one whose mode is off is not among them")
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(u config.Upstream) bool {
		return len(q.Prefixes) > 0 && !slices.Contains(q.Prefixes, u.Prefix)
	}), nil
}

func (a upstreamAdmin) test(ctx context.Context, u config.Upstream, image string) api.UpstreamTested {
	ctx, cancel := context.WithTimeout(ctx, testLimit)
	defer cancel()
	began := time.Now()
	asked, err := a.ask(ctx, u, strings.TrimPrefix(image, u.Prefix+"/"))
	if errors.Is(err, context.DeadlineExceeded) && hint.Of(err) == "" {
		err = hint.New(fmt.Errorf("%s gives no answer within %s", u.URL, testLimit), "check the network to it, and HTTPS_PROXY and NO_PROXY")
	}
	t := api.UpstreamTested{Prefix: u.Prefix, URL: u.URL, Asked: asked, Took: api.Duration(time.Since(began).Round(time.Millisecond))}
	if err != nil {
		t.Error, t.Hint = err.Error(), hint.Of(err)
	}
	return t
}

// ask asks an upstream for an image, or for a login if that is "", and returns what it asked for.
func (a upstreamAdmin) ask(ctx context.Context, u config.Upstream, image string) (asked string, err error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return "", err
	}
	options, err := a.readAs(u, at)
	if err != nil {
		return "", err
	}
	options.Idle = nil // which is for requests of clients
	client, err := upstream.New(options)
	if err != nil {
		return "", err
	}
	defer client.Close()
	below := strings.Trim(at.Path, "/")
	if image == "" {
		anonymous, err := client.Login(ctx, below)
		if anonymous {
			return "no login", err
		}
		return "login", err
	}
	name, ref := splitImage(image)
	name = path.Join(below, name)
	if refuse := permits(u); refuse != nil {
		if err := refuse(name); err != nil {
			return name, err
		}
	}
	_, err = client.Resolve(ctx, name, ref)
	return name + " " + ref, err
}

// splitImage splits repository:tag, repository@digest, or both, of which the digest counts. Without either
// the tag is latest.
func splitImage(image string) (name, ref string) {
	if image, d, found := strings.Cut(image, "@"); found {
		name, _ := splitImage(image)
		return name, d
	}
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], image[i+1:]
	}
	return image, "latest"
}

// Reload reads the upstreams again from the configuration. What else has changed there takes a
// restart.
func (a upstreamAdmin) Reload(context.Context) error {
	if a.given.Config == nil {
		return errors.New("this program has no configuration file")
	}
	cfg, err := a.given.Config()
	if err != nil {
		return err
	}
	if err := a.setUpstreams(cfg); err != nil {
		return err
	}
	a.log.Info("upstreams reloaded", "upstreams", len(a.upstreams.configured()))
	if changed := a.pendingConfig(); changed != api.PendingNothing {
		a.log.Warn("config.yaml has other changes, which are in force after a restart", "changed", changed)
	}
	return nil
}

// pendingConfig returns what of config.yaml, as it is now, is not in force, see api.Status.
func (d *daemon) pendingConfig() string {
	if d.given.Config == nil {
		return api.PendingNothing
	}
	cfg, err := d.given.Config()
	if err != nil {
		return err.Error()
	}
	var names []string
	now, read := reflect.ValueOf(*cfg), reflect.ValueOf(*d.cfg)
	for i := range now.NumField() {
		field := now.Type().Field(i)
		if !field.IsExported() || field.Name == "Upstreams" {
			continue
		}
		name := field.Name
		other := name == "Database" && cfg.DatabaseServer() != d.cfg.DatabaseServer()
		if other || !reflect.DeepEqual(now.Field(i).Interface(), read.Field(i).Interface()) {
			names = append(names, strings.ToLower(name[:1])+name[1:])
		}
	}
	switch routes := cfg.Routes(); {
	case len(names) > 0:
		return strings.Join(names, ", ")
	case len(routes)+len(d.upstreams.configured()) > 0 && !reflect.DeepEqual(routes, d.upstreams.configured()):
		return api.PendingReload
	}
	return api.PendingNothing
}

// reloadOn reloads at each signal, until ctx ends.
func (a upstreamAdmin) reloadOn(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
			if err := a.Reload(ctx); err != nil {
				a.log.Error("config.yaml cannot be reloaded; what was in force stays", "error", err, "hint", hint.Of(err))
			}
		}
	}
}
