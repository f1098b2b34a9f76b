// Package testdata holds fixtures that more than one room's tests use, and
// that make run uses. What only one package needs stands in that package's own
// testdata directory.
package testdata

import "embed"

// FS has this directory's fixtures: imageset/sample.yaml is what make run mirrors.
//
//go:embed imageset
var FS embed.FS
