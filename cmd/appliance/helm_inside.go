//go:build helm

package main

import _ "embed"

// helmInside is cmd/appliance-helm, by gzip. make build puts it there.
//
//go:embed appliance-helm.gz
var helmInside []byte
