package api

import "github.com/opencontainers/go-digest"

// Resource is a file of the cluster resources.
type Resource struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
	Data   string        `json:"data"`
}
