// Package docs has the documentation, which the program and its media carry: its readers have no
// internet.
package docs

import "embed"

// Files are the pages.
//
//go:embed *.md
var Files embed.FS
