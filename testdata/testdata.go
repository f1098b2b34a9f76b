// Package testdata holds fixtures that more than one room's tests use, and
// that make run uses. What only one package needs stands in that package's own
// testdata directory.
package testdata

import "embed"

// FS has this directory's fixtures: imageset/sample.yaml is what make run mirrors. operator has
// made-up catalogs, cases.json with operator entries and what oc-mirror leaves of the catalogs, and
// ours.json with the cases in which ours is to be better, and the reason.
//
//go:embed imageset all:operator
var FS embed.FS
