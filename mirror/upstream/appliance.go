package upstream

import (
	"encoding/json"
	"fmt"
	"slices"
)

// toldOffline is the word of an appliance that asks no other host, or is behind one.
const toldOffline = "offline"

// toldIn returns the word by which an appliance tells, in the detail of an error, why it does not get what
// it pulls through: that is not about the rights of the account which asks it.
func toldIn(detail json.RawMessage) string {
	var d struct{ Reason string }
	if json.Unmarshal(detail, &d) != nil || !slices.Contains(tellable, d.Reason) {
		return ""
	}
	return d.Reason
}

// tellable are the words of an appliance: those of Kind, and those of package pull. Other registries
// may have reasons too.
var tellable = []string{toldOffline, "policy", "denied", "login", "limit", "refused", "failing", "broken", "nonsense", "redirect",
	"proxy", "unresolvable", "tls", "timeout", "unreachable", "other"}

// hintOfAppliance is the hint for what the appliance told.
func (e *readError) hintOfAppliance() string {
	if e.told == toldOffline {
		return fmt.Sprintf("%s asks no other host, or the one that it asks does not: on its host, appliance offline off", e.Registry)
	}
	return fmt.Sprintf("%s does not get it itself: on its host, appliance upstream test --image %s:TAG", e.Registry, e.Repository)
}
