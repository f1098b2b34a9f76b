package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/node"
	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

func (o *clusterConfigOptions) checkFlags() error {
	switch {
	case o.dir == "" && !o.dryRun:
		return hint.New(errors.New("--dir is missing"), "the directory to write, for example --dir prod")
	case o.passwordStdin && o.user == "":
		return hint.New(errors.New("--password-stdin is the password of --user, which is missing"), "--user NAME --password-stdin")
	case o.user != "" && o.first.pullSecret != "":
		return hint.New(errors.New("--user and --pull-secret are both the login of the nodes"), "give one of the two")
	}
	return o.also.check()
}

// check reads the names of the other appliances.
func (o *othersFlags) check() error {
	if len(o.addresses) == 0 && len(o.cas)+len(o.pullSecrets) > 0 {
		return hint.New(errors.New("--also is missing, and its CA or its login is named"), "--also HOST:PORT")
	}
	var all []string
	for _, named := range o.addresses {
		if named == "" {
			return hint.New(errors.New("--also is empty"), "name an appliance, HOST:PORT, or leave the flag out")
		}
		address, prefix, err := registryOf(named)
		switch {
		case err != nil:
			return err
		case prefix != "":
			return hint.New(fmt.Errorf("--also %s has a path", named), "name the appliance alone, HOST:PORT")
		case slices.Contains(all, address):
			return hint.New(fmt.Errorf("--also %s is given twice", address), "name each appliance once")
		}
		all = append(all, address)
	}
	o.addresses = all
	return nil
}

// registryOf reads the name of a registry, as clusters write it.
func registryOf(argument string) (registry, prefix string, err error) {
	registry, prefix, err = mirror.ParseDestination(strings.TrimPrefix(argument, "https://"))
	return strings.ToLower(registry), prefix, err
}

// facts returns what the files are made of.
func (o *clusterConfigOptions) facts(ctx context.Context, std stdio, args []string) (f *cluster.Facts, err error) {
	f = &cluster.Facts{NeverContactSource: o.never, ZeroTouch: o.zeroTouch}
	if f.InstallConfig, err = readIf(o.installConfig); err != nil {
		return nil, err
	}
	if len(args) == 0 {
		err = o.here(f)
	} else {
		err = o.there(ctx, f, args[0])
	}
	if err != nil {
		return nil, err
	}
	first := &f.Registries[0]
	if o.user != "" {
		first.Auth, err = o.authOf(ctx, std, first.Address)
	}
	if err == nil {
		err = o.content(ctx, std, args, f)
	}
	if err == nil {
		err = o.others(ctx, f)
	}
	for n := 1; n < len(f.Registries) && err == nil; n++ {
		f.Registries[n].Auth, err = o.authOfOther(f.Registries[n].Address)
	}
	if err == nil {
		err = o.tryLogins(ctx, f)
	}
	return f, err
}

// tryLogins returns an error if a registry does not take the login that nodes get. One that cannot be
// asked is a warning: it need not run now.
func (o *clusterConfigOptions) tryLogins(ctx context.Context, f *cluster.Facts) error {
	for _, r := range f.Registries {
		err := node.Login(ctx, r.Address, r.CA, r.Auth)
		var refused *node.RefusedError
		if errors.As(err, &refused) {
			return hint.New(fmt.Errorf("%s does not take the login that nodes would get: %w", r.Address, err), "see whether it is there (appliance user list, on its host) and compare the password; nothing was written")
		}
		if errors.As(err, new(x509.UnknownAuthorityError)) {
			flag := "--ca"
			if slices.Contains(o.also.addresses, r.Address) {
				flag = "--also-ca"
			}
			return hint.New(fmt.Errorf("nodes would not trust %s: the CA that they would get has not signed its certificate: %w", r.Address, err), "name the file with its CA: "+flag+" FILE; nothing was written")
		}
		if err != nil && ctx.Err() == nil {
			o.warnings = append(o.warnings, fmt.Sprintf("the login of nodes was not tried: %s", err))
		}
	}
	return ctx.Err()
}

// here adds what the host of an appliance has: its configuration, its CA and the pull secret of its
// nodes.
func (o *clusterConfigOptions) here(f *cluster.Facts) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	first := cluster.Registry{Address: id.Config.Address()}
	if first.CA, err = readIf(cmp.Or(o.first.ca, id.Config.TLS.CA)); err != nil {
		return err
	}
	for _, u := range id.Config.Routes() {
		f.Upstreams = append(f.Upstreams, cluster.Upstream{Prefix: u.Prefix, URL: u.URL, HeldOnly: u.Mode == config.ModeMirroredOnly})
	}
	if o.user == "" {
		file := cmp.Or(o.first.pullSecret, installer.PullSecretFile(filepath.Dir(filepath.Dir(id.Path))))
		if first.Auth, err = authIn(file, first.Address); err != nil {
			return err
		}
	}
	f.Registries = []cluster.Registry{first}
	return nil
}

// there adds the CA and the login of an appliance elsewhere.
func (o *clusterConfigOptions) there(ctx context.Context, f *cluster.Facts, argument string) error {
	address, _, err := registryOf(argument)
	if err != nil {
		return err
	}
	first := cluster.Registry{Address: address}
	var files []string
	if o.first.ca != "" {
		files = []string{o.first.ca}
	}
	if first.CA, err = o.caOf(ctx, address, files, o.destCertDir, "--ca"); err != nil {
		return err
	}
	if o.user == "" {
		if first.Auth, err = o.pullerAuth(address, o.first.pullSecret, "--pull-secret"); err != nil {
			return err
		}
	}
	f.Registries = []cluster.Registry{first}
	return nil
}

// others adds the other appliances, with their CAs.
func (o *clusterConfigOptions) others(ctx context.Context, f *cluster.Facts) error {
	for _, address := range o.also.addresses {
		if address == f.Registries[0].Address {
			return hint.New(fmt.Errorf("--also %s is the appliance itself", address), "name another one")
		}
		ca, err := o.caOf(ctx, address, o.also.cas, "", "--also-ca")
		if err != nil {
			return err
		}
		f.Registries = append(f.Registries, cluster.Registry{Address: address, CA: ca})
	}
	return nil
}

// authOfOther returns the login that nodes get for another appliance: of the first file that has one.
func (o *clusterConfigOptions) authOfOther(address string) (auth string, err error) {
	files := o.also.pullSecrets
	if len(files) == 0 {
		files = []string{o.first.pullSecret}
	}
	for _, file := range files {
		if auth, err = o.pullerAuth(address, file, "--also-pull-secret"); err == nil {
			break
		}
	}
	return auth, err
}

// authIn returns the login of a registry in a pull secret.
func authIn(file, address string) (string, error) {
	text, err := regular.ReadFile(file)
	auth := ""
	if err == nil {
		auth, _, err = cluster.Auth(text, address)
	}
	if err == nil && auth == "" {
		err = errors.New("it has no login for it")
	}
	if err != nil {
		return "", hint.New(fmt.Errorf("pull secret %s for %s: %w", file, address, regular.Reason(err)),
			"name the file that the install has left in quay-config/pull-secret.json with --pull-secret, or a user whose login there is: --user NAME")
	}
	return auth, nil
}

// pullerAuth returns the login that nodes get for an appliance elsewhere: that of a file, or the
// login of this user for it if that can only pull.
func (o *clusterConfigOptions) pullerAuth(address, file, flag string) (string, error) {
	if file != "" {
		return authIn(file, address)
	}
	login, err := loginFor(upstream.Keychain(o.authFile), address, "")
	if err != nil {
		return "", err
	}
	if login.Username == installer.PullerUser && login.Password != "" {
		return cluster.NewAuth(login.Username, login.Password), nil
	}
	return "", hint.New(fmt.Errorf("no login for the nodes at %s: nodes get that of the user %s, which can only read", address, installer.PullerUser),
		"copy quay-config/pull-secret.json of the appliance's install directory here, and name it with "+flag)
}

// authOf returns the login of the user that is asked for.
func (o *clusterConfigOptions) authOf(ctx context.Context, std stdio, address string) (string, error) {
	if o.passwordStdin {
		password, err := readPassword(ctx, std.in)
		return cluster.NewAuth(o.user, password), err
	}
	keys, err := o.login.keychain(o.authFile)
	if err != nil {
		return "", err
	}
	login, err := loginFor(keys, address, "")
	if err != nil {
		return "", err
	}
	if login.Username != o.user || login.Password == "" {
		return "", hint.New(fmt.Errorf("there is no login of user %s for %s", o.user, address),
			fmt.Sprintf("podman login -u %s %s, or give the password on standard input: --password-stdin", o.user, address))
	}
	return cluster.NewAuth(login.Username, login.Password), nil
}

// maxCA bounds the CA of an appliance, as regular.ReadFile bounds a file.
const maxCA = 1 << 20

// caOf returns the CA of an appliance elsewhere: of files, of the directories in which podman
// looks, or its own answer over a connection that is verified. nil: it has none of its own.
func (o *clusterConfigOptions) caOf(ctx context.Context, address string, files []string, dir, flag string) ([]byte, error) {
	if len(files) == 0 {
		found, err := upstream.TrustFiles(dir, address)
		if err != nil {
			return nil, err
		}
		files = found.CAs
	}
	var all [][]byte
	for _, ca := range files {
		text, err := regular.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	if len(all) > 0 {
		return bytes.Join(all, []byte("\n")), nil
	}
	if !o.destVerify {
		return nil, hint.New(fmt.Errorf("the CA of %s is not known, and cannot be asked for over a connection that is not verified", address),
			"name its file: "+flag+" FILE")
	}
	text, err := fetch.Client{HTTP: fetch.NewHTTPClient(true)}.Get(ctx, "https://"+address+"/ca.crt", "*/*", maxCA)
	var refused *fetch.StatusError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil, nil // its certificate is of a CA that this host trusts
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("the CA of %s: %w", address, err), "name its file: "+flag+" FILE, or put it into certs.d, as for podman")
	}
	return text, nil
}

// content adds what the appliance serves, and the release to install.
func (o *clusterConfigOptions) content(ctx context.Context, std stdio, args []string, f *cluster.Facts) error {
	var releases []cluster.Release
	err := o.ask(ctx, std, args, func(control *client.Client) error {
		if len(args) > 0 {
			if err := o.upstreams(ctx, control, f); err != nil {
				return err
			}
		}
		var err error
		releases, err = served(ctx, control, f)
		var refused *client.Refused
		if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
			releases, err = o.releasesByTags(ctx, f)
		}
		return err
	})
	if err != nil {
		return err
	}
	o.wish.Pulled = cluster.Pulled(f.Upstreams)
	if f.Release, f.Version, err = cluster.Choose(releases, o.wish); err != nil {
		return err
	}
	if f.Release.Repository == "" || f.Release.Digest != "" {
		return nil
	}
	reader, err := o.reader(f.Registries[0].Address)
	if err != nil {
		return err
	}
	defer reader.Close()
	desc, err := reader.Resolve(ctx, f.Release.Repository, f.Release.Tag)
	f.Release.Digest = desc.Digest
	return err
}

// served adds the cluster resources that an appliance serves, and returns the releases that it holds,
// which it tells administrators.
func served(ctx context.Context, control *client.Client, f *cluster.Facts) (releases []cluster.Release, err error) {
	all, err := control.Resources(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		f.Resources = append(f.Resources, resources.File{Name: s.Name, Data: []byte(s.Data)})
	}
	recorded, err := control.Origins(ctx)
	if err != nil {
		return nil, err
	}
	held, err := mirror.HeldReleases(origins(recorded))
	for _, r := range held {
		releases = append(releases, cluster.Release{Repository: r.Repository, Tag: r.Tag, Digest: r.Digest, Channel: r.Channel})
	}
	return releases, err
}

// upstreams adds what an appliance elsewhere pulls through.
func (o *clusterConfigOptions) upstreams(ctx context.Context, control *client.Client, f *cluster.Facts) error {
	all, err := control.Upstreams(ctx)
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		o.warnings = append(o.warnings, "what "+f.Registries[0].Address+" pulls through is not in the files, since it tells that to administrators alone: use the login of a user of role admin, with --pull-secret for the login of the nodes, or run this on its host")
		return nil
	}
	for _, u := range all {
		f.Upstreams = append(f.Upstreams, cluster.Upstream{Prefix: u.Prefix, URL: u.URL, HeldOnly: u.Mode == string(config.ModeMirroredOnly)})
	}
	return err
}

// reader reads the appliance elsewhere as any registry.
func (o *clusterConfigOptions) reader(address string) (*upstream.Client, error) {
	keys, err := o.login.keychain(o.authFile)
	if err != nil {
		return nil, err
	}
	trust, err := upstream.TrustFiles(o.destCertDir, address)
	if err != nil {
		return nil, err
	}
	return upstream.New(upstream.Options{Registry: address, Trust: trust, SkipVerify: !o.destVerify, Keychain: keys, UserAgent: "appliance/" + version})
}

// releasesByTags returns the releases of an appliance whose records are for administrators, by
// their tags.
func (o *clusterConfigOptions) releasesByTags(ctx context.Context, f *cluster.Facts) (all []cluster.Release, err error) {
	address := f.Registries[0].Address
	repositories, err := cluster.ReleaseRepositories(f.Resources, address)
	if err != nil {
		return nil, err
	}
	reader, err := o.reader(address)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for _, repository := range repositories {
		tags, err := reader.Tags(ctx, repository)
		if err != nil {
			return nil, err
		}
		for _, tag := range slices.Sorted(slices.Values(tags)) {
			all = append(all, cluster.Release{Repository: repository, Tag: tag})
		}
	}
	return all, nil
}
