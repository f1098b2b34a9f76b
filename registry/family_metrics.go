package registry

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirror-appliance/appliance/registry/role"
)

// collectFamily sends what this appliance is among those with the same content, and how far it is behind the one
// that it follows.
func (d snapshot) collectFamily(s samples) {
	now := d.family.Describe()
	for _, one := range []role.Role{role.Primary, role.Follower, role.Superseded} {
		s.send(prometheus.GaugeValue, "family_role", "1 for the role of the appliance; only a primary takes changes of content.", oneIf(now.Role == string(one)),
			prometheus.Labels{"role": string(one)})
	}
	s.gauge("family_generation", "How often the primary of the family has changed, and one.", float64(now.Generation))
	s.gauge("family_untold", "Appliances that have not confirmed yet that this one is the primary.", float64(len(now.Untold)))
	if f := d.family.state(); f != nil {
		s.gauge("follow_connected", "1 while the appliance that is followed answers.", oneIf(f.Connected))
		s.gauge("follow_caught_up", "1 while this appliance is equal to the one that it follows, as far as it knows.", oneIf(f.CaughtUp))
		s.gauge("follow_pending_changes", "Changes that are known here and do not show yet.", float64(f.Changes))
		s.gauge("follow_pending_blobs", "Blobs that are to come for them.", float64(f.Blobs))
		s.gauge("follow_pending_bytes", "Bytes that are to come for them.", float64(f.Bytes))
		if f.Equal != nil {
			s.gauge("follow_equal_timestamp_seconds", "When this appliance was last equal to the one that it follows; absent if it was not.", timestamp(*f.Equal))
		}
	}
}

// collectFollowers sends how far the followers of this appliance are behind.
func (d snapshot) collectFollowers(s samples) {
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit) // Prometheus gives a collector no context
	defer cancel()
	followers, err := d.store.Feed.List(ctx)
	if err != nil {
		s.fail(err)
		return
	}
	for _, f := range followers {
		labels := prometheus.Labels{"follower": f.Address}
		s.send(prometheus.GaugeValue, "follower_pending_changes", "Changes that a follower of this appliance does not show yet, or while it lists all, tags and manifests: at most 100000.", float64(f.Pending), labels)
		s.send(prometheus.GaugeValue, "follower_seen_timestamp_seconds", "When a follower of this appliance asked last, to the minute.", timestamp(f.Seen), labels)
	}
}
