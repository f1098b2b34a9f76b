package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	admin "github.com/mirror-appliance/appliance/registry/admin/client"
)

const (
	pageLimit = 300 // milliseconds that a page of the console may take
	// granted is a user that sees the last repository alone.
	granted = "granted"
)

// consolePage is a page that is timed.
type consolePage struct {
	what, note string
	user       string
	path       func() string
}

// consolePages lists the pages of a store of so many manifests.
func consolePages(scale int) []consolePage {
	at := func(path string) func() string { return func() string { return path } }
	tags := "/repositories/" + generatedRepo(0)
	tag := func() int { return rand.IntN(scale / bigRepoShare) }
	many := fmt.Sprintf("a repository of %d tags", scale/bigRepoShare)
	return []consolePage{
		{"overview", "", user, at("/")},
		{"repositories", "the first", user, at("/repositories")},
		{"search of repositories", "for the number of any", user, func() string {
			return fmt.Sprintf("/repositories?search=%05d", rand.IntN(repoOf(scale-1, scale)+1))
		}},
		{"repositories of a user with one", "the last of all", granted, at("/repositories")},
		{"tags", "the first of " + many, user, at(tags)},
		{"tags further on", "from anywhere in " + many, user, func() string { return fmt.Sprintf("%s?after=v%07d", tags, tag()) }},
		{"search of tags", "for the name of any in " + many, user, func() string { return fmt.Sprintf("%s?search=v%07d", tags, tag()) }},
	}
}

// consoleRows asks for pages of the console as a browser does, one after the other; the probe has one image.
func (b *bench) consoleRows(ctx context.Context, subject, probe *server, control, probeControl *admin.Client) ([]row, error) {
	last := []string{generatedRepo(repoOf(b.scale-1, b.scale))}
	for _, c := range []*admin.Client{control, probeControl} {
		if _, err := c.CreateUser(ctx, api.NewUser{Name: granted, Role: "pull", Password: password, Repositories: last}); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, page := range consolePages(b.scale) {
		took := map[*server][]time.Duration{}
		for round := range b.rounds + 1 {
			for _, s := range []*server{subject, probe} {
				some, err := b.pageLatencies(ctx, s, page)
				if err != nil {
					return nil, err
				}
				if round > 0 { // the first is for what the daemon remembers
					took[s] = append(took[s], some...)
				}
			}
		}
		r := row{What: "console: " + page.what + ", p99", Unit: "ms", Value: percentile(took[subject], 0.99), Probe: percentile(took[probe], 0.99), Note: page.note}
		rows = append(rows, r.under(pageLimit))
	}
	return rows, nil
}

// pageLatencies asks for a page for a while.
func (b *bench) pageLatencies(ctx context.Context, s *server, page consolePage) (took []time.Duration, err error) {
	c := newClient(b.site, s, h1)
	defer c.close()
	if c.http.Jar, err = cookiejar.New(nil); err != nil {
		return nil, err
	}
	form := url.Values{"user": {page.user}, "password": {password}}.Encode()
	_, err = c.do(ctx, http.MethodPost, "/login", strings.NewReader(form), int64(len(form)), "application/x-www-form-urlencoded", http.StatusOK)
	for began := time.Now(); err == nil && time.Since(began) < scaleSlice; {
		sent := time.Now()
		_, err = c.get(ctx, page.path())
		took = append(took, time.Since(sent))
	}
	return took, err
}
