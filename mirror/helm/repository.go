package helm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

const indexFile = "index.yaml"

func repositoryPath(i int) string { return fmt.Sprintf("mirror.helm.repositories[%d]", i) }

// charts lists the charts of a repository, which are those of its index if the configuration lists
// none. With an error the list is not complete.
func (s *session) charts(ctx context.Context, i int, r imageset.HelmRepository) ([]wanted, error) {
	var all []wanted
	for j, c := range r.Charts {
		if !chartName.MatchString(c.Name) {
			return nil, fmt.Errorf("%q is not the name of a chart", c.Name)
		}
		all = append(all, wanted{chart: c, repository: r,
			at: s.Config.At(fmt.Sprintf("%s.charts[%d]", repositoryPath(i), j))})
	}
	at, err := parseRepository(r.URL)
	if err != nil {
		return nil, err
	}
	switch {
	case at.Scheme == "oci" && len(all) == 0:
		return nil, hint.New(errors.New("an OCI registry has no index of its charts"),
			"list them under charts:, each with name: and version:")
	case at.Scheme == "oci", s.Offline && len(all) > 0:
		return all, nil
	}
	x, err := s.index(ctx, at, len(all) == 0)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		for _, e := range x.all() {
			all = append(all, wanted{chart: imageset.Chart{Name: e.Name, Version: e.Version},
				repository: r, at: s.Config.At(repositoryPath(i)), entry: e})
		}
		return all, nil
	}
	return s.findAll(x, all)
}

// findAll finds the charts in the index.
func (s *session) findAll(x *index, all []wanted) (found []wanted, err error) {
	for _, w := range all {
		entry, missing := x.find(w.chart.Name, w.chart.Version)
		if missing != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", w.at, missing))
			continue
		}
		w.entry = entry
		found = append(found, w)
	}
	return found, err
}

// parseRepository parses the address of a repository, which ends with a slash or not, or names its
// index.
func parseRepository(text string) (*url.URL, error) {
	at, err := url.Parse(text)
	if err != nil { // its text has the address, which may have a password
		return nil, hint.New(errors.New("the url of the Helm repository cannot be parsed"),
			"write url: https://host/path/")
	}
	if at.Scheme != "http" && at.Scheme != "https" && at.Scheme != "oci" || at.Host == "" {
		return nil, hint.New(fmt.Errorf("%s is not the url of a Helm repository", plain.Address(at.String())),
			"write url: https://host/path/ or oci://host/path")
	}
	at.Path = strings.TrimSuffix(strings.TrimSuffix(at.Path, "/"+indexFile), "/") + "/"
	at.RawPath = ""
	return at, nil
}

// index reads the index of a repository. One that decides which charts there are is kept in the
// workspace, where oc-mirror has it.
func (s *session) index(ctx context.Context, at *url.URL, keep bool) (*index, error) {
	name := path.Join("helm/indexes", at.Host, at.Path, indexFile)
	if s.Offline {
		raw, err := s.Files.Read(name)
		if err != nil {
			return nil, hint.New(err, "mirror the repository where there is a network, and bring the archive of that run")
		}
		return parseIndex(raw)
	}
	x := s.indexes[at.String()]
	if x == nil {
		raw, err := s.get(ctx, at, at.JoinPath(indexFile), maxIndex)
		if err != nil {
			return nil, err
		}
		if x, err = parseIndex(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", plain.Address(at.JoinPath(indexFile).String()), err)
		}
		s.indexes[at.String()] = x
	}
	if keep {
		return x, s.Files.Write(name, x.raw)
	}
	return x, nil
}

// download reads the archive of an entry from the first of its addresses that has it.
func (s *session) download(ctx context.Context, w wanted) (data []byte, warnings []string, err error) {
	if data := s.heldAlready(w.entry); data != nil {
		return data, nil, nil
	}
	base, err := parseRepository(w.repository.URL)
	if err != nil {
		return nil, nil, err
	}
	if len(w.entry.URLs) == 0 {
		return nil, nil, errors.New("the index has no address for it")
	}
	var errs []error
	for _, address := range w.entry.URLs {
		at, err := base.Parse(address)
		switch {
		case err != nil:
			err = errors.New("an address in the index cannot be parsed")
		case at.Scheme == "oci":
			data, err = s.pullFrom(ctx, strings.TrimPrefix(address, "oci://"), w.entry.Version)
		default:
			if at.RawQuery == "" && at.Host == base.Host {
				at.RawQuery = base.RawQuery // as Helm does: it may have a token
			}
			data, err = s.get(ctx, base, at, maxChart)
		}
		if err == nil {
			return data, changed(w.entry, data), nil
		}
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

// changed returns a warning if an archive is not the one that the index names. Helm does not
// compare them.
func changed(e *entry, data []byte) []string {
	got := digest.SHA256.FromBytes(data).Encoded()
	if want := strings.TrimPrefix(e.Digest, "sha256:"); want == "" || want == got {
		return nil
	}
	return []string{fmt.Sprintf("the index says that its archive has the digest %s, and it has %s", e.Digest, got)}
}

// get reads a document. The login of the repository goes to the repository's own host only.
func (s *session) get(ctx context.Context, repository, at *url.URL, most int64) ([]byte, error) {
	if at.Scheme != "http" && at.Scheme != "https" {
		return nil, fmt.Errorf("%s has no scheme that charts are read by", plain.Address(at.String()))
	}
	client, err := s.Fetch(at.Host)
	if err != nil {
		return nil, err
	}
	user, err := s.login(repository)
	if err != nil {
		return nil, err
	}
	if user != nil {
		with := *client.HTTP
		with.Transport = &loggedIn{inner: client.HTTP.Transport, scheme: repository.Scheme,
			host: repository.Host, user: user}
		client.HTTP = &with
	}
	bare := *at
	bare.User = nil
	data, err := client.Get(ctx, bare.String(), "*/*", most)
	if err == nil {
		return data, nil
	}
	err = fmt.Errorf("%s: %w", plain.Address(at.String()), err)
	var status *fetch.StatusError
	if errors.As(err, &status) && (status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden) {
		return nil, hint.New(err, "log in with podman login "+repository.Host+", or write a file for --authfile that has an entry for it")
	}
	return nil, err
}

// login returns the user of a repository: the one in its address, or the one that the user has
// logged in as.
func (s *session) login(repository *url.URL) (*url.Userinfo, error) {
	if repository.User != nil || s.Keychain == nil {
		return repository.User, nil
	}
	found, err := s.Keychain.Resolve(resource{repository.Host, strings.Trim(repository.Path, "/")})
	if err != nil {
		return nil, err
	}
	if found == authn.Anonymous {
		return nil, nil
	}
	config, err := found.Authorization()
	if err != nil || config.Username == "" {
		return nil, err
	}
	return url.UserPassword(config.Username, config.Password), nil
}

// resource is a repository, for a keychain.
type resource struct{ host, path string }

func (r resource) String() string      { return strings.TrimSuffix(r.host+"/"+r.path, "/") }
func (r resource) RegistryStr() string { return r.host }

// loggedIn adds a login to the requests to one host.
type loggedIn struct {
	inner        http.RoundTripper
	scheme, host string
	user         *url.Userinfo
}

// RoundTrip implements http.RoundTripper.
func (t *loggedIn) RoundTrip(r *http.Request) (*http.Response, error) {
	inner := t.inner
	if inner == nil {
		inner = http.DefaultTransport
	}
	if r.URL.Host == t.host && r.URL.Scheme == t.scheme {
		password, _ := t.user.Password()
		r = r.Clone(r.Context())
		r.SetBasicAuth(t.user.Username(), password)
	}
	return inner.RoundTrip(r)
}
