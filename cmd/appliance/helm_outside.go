//go:build !helm

package main

// helmInside is empty in a build without the tag helm.
var helmInside []byte
