package api

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// lateAfter is how long a follower may be without having been equal before doctor warns.
	lateAfter = time.Hour
)

// AtRest lists what an appliance does by itself only while it takes changes.
const AtRest = "scheduled syncs, views of catalogs, what attached clusters need, pull-through and its quota"

// Summary describes the role in a line, and what to type where something is to be done.
func (f Family) Summary() (text, next string) {
	again := FollowCommand(f.Primary)
	gone := "appliance forget https://HOST:PORT"
	if len(f.Untold) == 1 {
		gone = "appliance forget https://" + f.Untold[0]
	}
	switch {
	case f.Role == "follower":
		text = "a copy of https://" + f.Follows + ", read-only"
		if f.Promoting {
			return text + "; its promotion was interrupted", "go on: appliance promote"
		}
		if f.Removed {
			return text + "; removed at https://" + f.Follows + ", which does not know this appliance as its follower any more",
				WayBack(f.Follows)
		}
		if f.Primary != "" && f.PrimaryID != "" && !slices.Contains(f.Above, f.PrimaryID) {
			return text + "; https://" + f.Primary + " has taken the place of that", "what comes there does not come here: " + again
		}
	case f.Role == "superseded" && f.Promoting:
		return "read-only: its promotion was interrupted", "go on: appliance promote"
	case f.Role == "superseded" && f.Removed:
		return "read-only: https://" + f.Primary + " has taken its place, and does not know this appliance any more", WayBack(f.Primary)
	case f.Role == "superseded":
		return "read-only: https://" + f.Primary + " has taken its place", "have it be a copy of that: " + again
	case len(f.Strangers) > 0:
		return f.strangers(), "have that be a copy of this one, on its host: " + again + "; until then make sure that no client reaches it. If it does not come back, or its host was put up anew: " + gone
	case len(f.Untold) > 0:
		return "primary of generation " + fmt.Sprint(f.Generation) + "; not told yet: " + strings.Join(f.Untold, " "),
			"make sure that these are off, or reached by no client; each is told when it is reached, and asks when it starts. If one does not come back: " + gone
	default:
		text = fmt.Sprintf("primary of generation %d", f.Generation)
	}
	return text, ""
}

// FollowCommand returns the command that makes an appliance a copy of the one at an address, host:port. It has the CA, since most
// appliances have one of their own.
func FollowCommand(address string) string {
	return "appliance follow https://" + address + " --credentials FILE --ca FILE"
}

// followsFollower reports whether the appliance that is followed is not the primary.
func (f Family) followsFollower() bool {
	return f.Primary != "" && f.PrimaryID != "" && len(f.Above) > 0 && f.Above[0] != f.PrimaryID
}

// WayBack is what to do with a follower that the appliance at an address does not know any more.
func WayBack(first string) string {
	return "have this appliance be its copy again: " + FollowCommand(first) + "; or be an appliance of its own, with what it has: appliance follow --stop"
}

// strangers describes a primary that was promoted while another appliance, which does not know it, could not be reached.
func (f Family) strangers() string {
	var all []string
	for _, address := range f.Strangers {
		all = append(all, "https://"+address)
	}
	text := fmt.Sprintf("primary of generation %d; not known as a follower at %s, which could therefore not be told and may take changes", f.Generation, strings.Join(all, " "))
	var others []string
	for _, address := range f.Untold {
		if !slices.Contains(f.Strangers, address) {
			others = append(others, address)
		}
	}
	if len(others) > 0 {
		text += "; not told yet: " + strings.Join(others, " ")
	}
	return text
}

// Summary describes in a line how far a follower is.
func (f Following) Summary() string {
	equal := "never equal to it yet"
	if f.Equal != nil {
		equal = "equal to it at " + f.Equal.Local().Format(time.DateTime)
	}
	switch {
	case !f.Connected && f.Error != "":
		return equal + "; it is not reached: " + f.Error
	case f.Error != "":
		return equal + "; " + f.Error
	case f.CaughtUp:
		return equal
	}
	return fmt.Sprintf("%s; %d changes and %d blobs are to come", equal, f.Changes, f.Blobs)
}

// family tells of the role, and how far a follower is.
func (t teller) family(s Status, now time.Time) {
	if s.Family == nil {
		return
	}
	text, next := s.Family.Summary()
	if next != "" {
		t.Warn("family", "", text, next)
	} else {
		t.OK("family", "", "%s", text)
	}
	f := s.Following
	if f == nil {
		return
	}
	next = f.Hint
	switch {
	case next != "":
	case f.Connected && f.Error != "":
		next = "https://" + s.Family.Follows + " answers: see the log of this appliance for what it cannot do: journalctl -u appliance"
	default:
		next = "see whether https://" + s.Family.Follows + " runs and is reached from here: appliance status"
	}
	if !f.Connected && s.Family.followsFollower() {
		next += "; if it is gone, follow the primary: " + FollowCommand(s.Family.Primary)
	}
	switch late := f.Equal == nil || now.Sub(*f.Equal) > lateAfter; {
	case f.Error != "":
		t.Warn("follow", "", f.Summary(), next)
	case late && !f.CaughtUp && f.Equal != nil:
		t.Warn("follow", "", f.Summary(), next)
	default:
		t.OK("follow", "", "%s", f.Summary())
	}
}
