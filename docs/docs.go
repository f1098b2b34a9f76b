// Package docs has the documentation, which media carry.
package docs

import "embed"

// Files are the pages.
//
//go:embed *.md
var Files embed.FS
