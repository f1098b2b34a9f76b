package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// offer returns what a catalog here has of a package. That it cannot be read, or has nothing, is a reason.
func (o *operators) offer(ctx context.Context, named string, i installation) (*operator.Offer, error) {
	found, ok, err := o.open(ctx, named, i)
	if ok && found == nil {
		o.refuse(api.Reason{Code: "operator-absent", Where: o.Registry + "/" + named, Text: "operator " + i.pkg + " is not in this catalog", Hint: "mirror the catalog with it: appliance mirror, or --as-imageset", Cure: o.cureOf(named, i)})
	}
	return found, err
}

// open returns what a catalog here has of a package, nil for nothing. That it cannot be read is a reason.
func (o *operators) open(ctx context.Context, named string, i installation) (found *operator.Offer, ok bool, err error) {
	cure := o.cureOf(named, i)
	found, err = o.ofPackage(ctx, named, i.pkg, cure)
	switch {
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		o.refuse(api.Reason{Code: "catalog-absent", Where: o.Registry + "/" + named, Text: "this catalog, which operator " + i.pkg + " needs, is not here", Hint: "mirror it: appliance mirror, or --as-imageset", Cure: cure})
		return nil, false, nil
	case err != nil:
		o.refuse(api.Reason{Code: "catalog-unread", Where: o.Registry + "/" + named, Text: "this catalog cannot be read: " + err.Error(), Hint: hintOr(err, again), Cure: cure})
		return nil, false, nil
	}
	return found, true, nil
}

func hintOr(err error, other string) string {
	if h := hint.Of(err); h != "" {
		return h
	}
	return other
}

// cureOf is a package of a catalog as content, nil if it is not known where the catalog comes from.
func (o *operators) cureOf(named string, i installation) *api.Cure {
	repository, tag, _ := strings.Cut(named, ":")
	for _, h := range o.held {
		at, _, _ := strings.Cut(h.Image, ":")
		if ref, err := imageset.ParseReference(h.Catalog); err == nil && at == repository && !strings.HasPrefix(tag, "sha256") {
			cure := &api.Cure{Catalog: ref.Registry() + "/" + ref.Repository() + ":" + tag, Package: i.pkg}
			if len(i.channels) > 0 {
				cure.PackageChannel, cure.MinVersion = i.channels[0], i.bundle.Version
			}
			return cure
		}
	}
	return nil
}

// ofPackage returns what a catalog has of a package, nil for nothing.
func (o *operators) ofPackage(ctx context.Context, named, pkg string, cure *api.Cure) (*operator.Offer, error) {
	repository, ref, _ := strings.Cut(named, ":")
	repo := stored.Repository{Store: o.Store, Name: repository}
	d, err := repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	c := o.read[d]
	if c == nil {
		c = o.offers.Of(repo, ref, d)
		o.read[d] = c
	}
	if !c.Knows(pkg) {
		if err := o.Store.CheckSpace(); err != nil {
			return nil, err
		}
		o.tell(api.ReadyProgress{Reads: "catalog " + named})
	}
	found, err := c.Package(ctx, pkg)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("it is not whole here: %v", err) // and not absent
	}
	if err != nil || o.relied[named] {
		return found, err
	}
	o.relied[named] = true
	o.verdict.Basis.Catalogs = append(o.verdict.Basis.Catalogs, api.JudgedImage{Image: named, Digest: d})
	_, err = o.look(ctx, o.standsFor(cure), wanted{"catalog " + named, named, d}, place{repository, d})
	return found, err
}

// keep keeps what was read of catalogs for the next verdict, which reads it anew where that fails.
func (o *operators) keep(ctx context.Context) {
	var errs []error
	for _, c := range o.read {
		errs = append(errs, c.Keep())
	}
	ctx = context.WithoutCancel(ctx)
	errs = append(errs, o.offers.Prune(func(d digest.Digest) (bool, error) {
		at, err := o.Store.Manifests.Repositories(ctx, d)
		return len(at) > 0, err
	}))
	if err := errors.Join(errs...); err != nil {
		o.Log.Warn("what was read of catalogs is not kept", "error", err)
	}
}
