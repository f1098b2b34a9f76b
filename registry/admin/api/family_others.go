package api

import "slices"

// Other is another appliance that one knows: a follower, or one that it has not told yet that it is the primary.
type Other struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	Follower bool   `json:"follower"`
	Untold   bool   `json:"untold"`
}

// Others returns the appliances that RemoveFollower takes.
func (f Family) Others(followers []Follower) []Other {
	var all []Other
	for _, one := range followers {
		all = append(all, Other{ID: one.ID, Address: one.Address, Follower: true, Untold: slices.Contains(f.UntoldIDs, one.ID)})
	}
	for i, id := range f.UntoldIDs {
		if !slices.ContainsFunc(followers, func(one Follower) bool { return one.ID == id }) {
			all = append(all, Other{ID: id, Address: f.Untold[i], Untold: true})
		}
	}
	return all
}

// Forgotten tells what forgetting an appliance means for a primary, with the address of that.
func (o Other) Forgotten(primary string) (text string) {
	if o.Follower {
		text = "The changes that are kept for it are dropped. If it asks again, it is registered again and compares everything; to end that, type appliance follow --stop on its host."
	}
	if !o.Untold {
		return text
	}
	if text != "" {
		text += " "
	}
	return text + "It has not confirmed that this appliance is the primary. It is not told any more, and nothing warns of it. Should it ever start again, it is told only if it asks; otherwise it takes changes. " +
		"So destroy its data, or have it be a copy before a client reaches it, on its host: " + FollowCommand(primary)
}
