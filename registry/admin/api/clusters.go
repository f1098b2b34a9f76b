package api

import (
	"errors"
	"regexp"
	"time"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// MaxExport bounds what a cluster sends of itself.
const MaxExport = 64 << 20

const maxClusterName = 200

var clusterID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,63}$`)

// AttachRequest is what a cluster has told of itself.
type AttachRequest struct {
	Name  string      `json:"name,omitempty"` // for people; "": as before
	User  string      `json:"user,omitempty"` // that may push what the cluster tells; "": as before
	Facts state.Facts `json:"facts"`
}

// Check returns an error unless the request can be granted.
func (q AttachRequest) Check() error {
	switch {
	case !clusterID.MatchString(q.Facts.ID):
		return hint.New(errors.New("what the cluster has told of itself has no spec.clusterID of its ClusterVersion"),
			"make the export with: "+state.Needed)
	case q.Name != plain.Line(q.Name) || len(q.Name) > maxClusterName:
		return hint.New(errors.New("the name of the cluster is too long, or has characters that are not printed"), "choose another name")
	}
	return nil
}

// AttachedCluster is a cluster whose images are protected.
type AttachedCluster struct {
	ID       string    `json:"id"`
	Name     string    `json:"name,omitempty"`
	User     string    `json:"user,omitempty"` // that may push what the cluster tells
	Updated  time.Time `json:"updated"`        // when it told of itself
	Version  string    `json:"version"`
	Updating string    `json:"updating,omitempty"`
	Channel  string    `json:"channel,omitempty"`
	// Releases are those that it runs, is updated to, or may roll back to.
	Releases []string `json:"releases"`
	Images   int      `json:"images"` // that it needs
	Held     int      `json:"held"`   // of these, that are here
	Problems []string `json:"problems"`
}
