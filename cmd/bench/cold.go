package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	coldClients = 20
	coldRounds  = 3
	coldSize    = 20e6    // bytes of the one layer
	coldRate    = 10e6    // bytes a second that all connections to the upstream have together
	coldBurst   = 1 << 20 // bytes; more than one Read gives
	coldRepo    = "bench/cold"
)

// measureCold has twenty clients pull an image at once that the server does not have, over one slow link to the upstream:
// a second download of it costs as much again. The probe is one client that pulls it over the link itself.
func measureCold(ctx context.Context, b *bench) (_ []row, err error) {
	origin, control, err := b.startSubject(ctx, "origin")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, origin.stop(), b.site.remove("origin")) }()
	control.Close()
	l, err := openSlowLink(b.site, origin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	servers, err := b.startCold(ctx, l.url())
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	if err != nil {
		return nil, err
	}
	slowest := series{}
	for round := range coldRounds {
		i, err := b.pushCold(ctx, origin, round)
		if err != nil {
			return nil, err
		}
		took, err := l.direct(ctx, i)
		if err != nil {
			return nil, err
		}
		slowest.add(probeName, took.Seconds())
		for _, s := range servers {
			took, err := b.pullCold(ctx, s, fmt.Sprint(round), i)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			slowest.add(s.name, took.Seconds())
		}
	}
	r := slowest.row(fmt.Sprintf("cold pull of %d MB by %d clients over a link of %d MB/s: the slowest", int(coldSize/1e6), coldClients, int(coldRate/1e6)), "s")
	return []row{r.atMost(1.15)}, nil
}

// startCold starts what pulls through: the subject, and the others that are on this machine.
func (b *bench) startCold(ctx context.Context, upstream string) (servers []*server, err error) {
	const name = "cold"
	if err := b.site.remove(name); err != nil {
		return nil, err
	}
	s, control, err := b.startSubject(ctx, name, "--upstream", upstream)
	if err != nil {
		return nil, err
	}
	control.Close()
	s.name = subjectName
	servers = append(servers, s)
	if !b.peers {
		return servers, nil
	}
	for name, configure := range map[string]func(*site, string) (any, []string){distributionProgram: distributionConfig, zotProgram: zotConfig} {
		program, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return servers, err
		}
		if err := b.site.remove(name); err != nil { // what an earlier row has left
			return servers, err
		}
		p, err := b.startPeer(ctx, name, program, func(at *site, addr string) (any, []string) {
			config, args := configure(at, addr)
			return pullThrough(config.(object), name, upstream), args
		})
		if err != nil {
			return servers, err
		}
		servers = append(servers, p)
	}
	return servers, nil
}

// pullThrough adds an upstream to the configuration of a peer.
func pullThrough(config object, name, upstream string) object {
	if name == distributionProgram {
		config["proxy"] = object{"remoteurl": upstream}
		return config
	}
	config["extensions"] = object{"sync": object{"enable": true, "registries": []object{
		{"urls": []string{upstream}, "onDemand": true, "tlsVerify": false, "content": []object{{"prefix": "**"}}},
	}}}
	return config
}

func (b *bench) pushCold(ctx context.Context, origin *server, round int) (image, error) {
	c := newClient(b.site, origin, h1)
	defer c.close()
	i, err := newImage(fmt.Sprintf("cold/%d", round), 1, coldSize)
	if err != nil {
		return i, err
	}
	return i, c.pushImage(ctx, coldRepo, fmt.Sprint(round), i)
}

// pullCold says how long the slowest client took for the whole image.
func (b *bench) pullCold(ctx context.Context, s *server, tag string, i image) (time.Duration, error) {
	repo := "/v2/" + coldRepo
	if s.name == subjectName {
		repo = "/v2/" + coldPrefix + "/" + coldRepo
	}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range coldClients {
		g.Go(func() error {
			c := newClient(b.site, s, h1)
			defer c.close()
			if _, err := c.get(ctx, repo+"/manifests/"+tag); err != nil {
				return err
			}
			for _, blob := range i.blobs {
				a, err := c.get(ctx, repo+"/blobs/"+digest.FromBytes(blob).String())
				if err != nil {
					return err
				}
				if a.length != int64(len(blob)) {
					return fmt.Errorf("%d bytes came, not %d", a.length, len(blob))
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// A slowLink hands on requests to a registry and its answers, all of them together at coldRate.
type slowLink struct {
	http     *http.Server
	listener net.Listener
	ended    errgroup.Group
	rate     *rate.Limiter // of bytes
}

func openSlowLink(at *site, to *server) (*slowLink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &slowLink{listener: listener, rate: rate.NewLimiter(coldRate, coldBurst)}
	target := &url.URL{Scheme: "https", Host: hostname}
	l.http = &http.Server{ReadHeaderTimeout: 15 * time.Second, Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.SetBasicAuth(user, password)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = &slowBody{ReadCloser: r.Body, ctx: r.Request.Context(), link: l}
			return nil
		},
		Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: at.clientTLS("http/1.1")}).DialContext(ctx, "tcp", to.addr)
		}},
	}}
	l.ended.Go(func() error { return l.http.Serve(listener) })
	return l, nil
}

func (l *slowLink) url() string { return "http://" + l.listener.Addr().String() }

func (l *slowLink) close() error {
	err := errors.Join(l.http.Close(), l.ended.Wait())
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

type slowBody struct {
	io.ReadCloser
	ctx  context.Context
	link *slowLink
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if waited := b.link.rate.WaitN(b.ctx, n); waited != nil {
		return n, waited
	}
	return n, err // as it is: io.EOF is compared
}

// direct pulls the blobs of an image over the link.
func (l *slowLink) direct(ctx context.Context, i image) (time.Duration, error) {
	began := time.Now()
	for _, blob := range i.blobs {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url()+"/v2/"+coldRepo+"/blobs/"+digest.FromBytes(blob).String(), nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK || n != int64(len(blob)) {
			return 0, fmt.Errorf("the link answered %s with %d bytes", resp.Status, n)
		}
	}
	return time.Since(began), nil
}
