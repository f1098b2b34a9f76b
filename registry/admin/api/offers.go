package api

import "github.com/opencontainers/go-digest"

// HeldCatalog is an operator catalog of the registry, or a view of one.
type HeldCatalog struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	Origin     string        `json:"origin"`         // what it is a mirror of
	View       string        `json:"view,omitempty"` // the name of the view of the configuration that it is
}

// PackagesRequest asks for the packages of an operator catalog, by parts of their names.
type PackagesRequest struct {
	Place
	Page
}

// CatalogPackages is a part of the packages of an operator catalog.
type CatalogPackages struct {
	Digest   digest.Digest    `json:"digest"` // of the catalog
	Count    int              `json:"count"`  // of its packages
	Bundles  int              `json:"bundles"`
	Packages []CatalogPackage `json:"packages"`
	More     bool             `json:"more,omitempty"` // there are some after the last
	// Error is the reason that the catalog cannot be read, with what to do in Hint.
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// CatalogPackage is a package of an operator catalog.
type CatalogPackage struct {
	Name           string           `json:"name"`
	DisplayName    string           `json:"displayName,omitempty"`
	DefaultChannel string           `json:"defaultChannel"`
	Channels       []CatalogChannel `json:"channels"`
	Bundles        int              `json:"bundles"`
	// Lacking counts the bundles of which an image is not here: null if there was no time to look at all, and for a
	// catalog that was read at its registry.
	Lacking    *int   `json:"lacking"`
	Deprecated string `json:"deprecated,omitempty"` // what the catalog says of that
}

// CatalogChannel is a channel of a package.
type CatalogChannel struct {
	Name       string   `json:"name"`
	Head       string   `json:"head"`     // "": it does not have one head
	Versions   []string `json:"versions"` // the newest last
	Deprecated string   `json:"deprecated,omitempty"`
}

// PackageRequest asks for a package of an operator catalog, with a part of the bundles in a channel.
type PackageRequest struct {
	Place
	Package string `json:"package"`
	Channel string `json:"channel,omitempty"` // "": the default
	After   string `json:"after,omitempty"`   // the last bundle of the part before
	Limit   int    `json:"limit,omitempty"`   // 0: PageUsual
}

// Check returns an error unless the request can be granted.
func (q PackageRequest) Check() error { return Page{Limit: q.Limit}.Check() }

// CatalogBundles is a package with a part of the bundles in a channel, the newest first.
type CatalogBundles struct {
	CatalogPackage
	Channel string          `json:"channel"`
	Listed  []CatalogBundle `json:"listed"`
	More    bool            `json:"more,omitempty"`
	Error   string          `json:"error,omitempty"` // the reason that the catalog cannot be read
	Hint    string          `json:"hint,omitempty"`
}

// CatalogBundle is a bundle in a channel.
type CatalogBundle struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Replaces   string   `json:"replaces,omitempty"`
	SkipRange  string   `json:"skipRange,omitempty"`
	Skips      []string `json:"skips,omitempty"`
	Images     int      `json:"images"`  // that it needs
	Counted    bool     `json:"counted"` // Lacking is known
	Lacking    []Lack   `json:"lacking,omitempty"`
	Deprecated string   `json:"deprecated,omitempty"`
}

// Lack is an image that a bundle needs and clusters do not get here.
type Lack struct {
	Image  string `json:"image"` // "": the bundle itself has a fault
	Reason string `json:"reason"`
}
