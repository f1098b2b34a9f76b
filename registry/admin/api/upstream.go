package api

// Offline is whether the registry asks other hosts.
type Offline struct {
	Offline bool `json:"offline"`
}

// UpstreamState is whether an upstream is asked.
type UpstreamState string

// What is held is served in each state.
const (
	UpstreamInService    UpstreamState = "in service"
	UpstreamNoAnswer     UpstreamState = "no answer"      // to a request of late: it is left alone for a while
	UpstreamOutOfService UpstreamState = "out of service" // a file that the configuration names cannot be used
)

// Upstream is a registry that is pulled through.
type Upstream struct {
	Prefix    string   `json:"prefix"`
	URL       string   `json:"url"`
	Mode      string   `json:"mode"` // cache or mirrored-only
	Login     bool     `json:"login"`
	Freshness Duration `json:"freshness"`

	State   UpstreamState `json:"state"`
	Trouble string        `json:"trouble,omitempty"` // the reason of the state, or what a restart would meet
	Hint    string        `json:"hint,omitempty"`
}

// UpstreamTest asks for a test of upstreams.
type UpstreamTest struct {
	Prefixes []string `json:"prefixes,omitempty"` // none: all
	// Image is repository:tag or repository@digest of this registry, which is asked for at its
	// upstream; "" for the login alone.
	Image string `json:"image,omitempty"`
}

// UpstreamTested is what a test found.
type UpstreamTested struct {
	Prefix string   `json:"prefix"`
	URL    string   `json:"url"`
	Asked  string   `json:"asked"` // for what
	Took   Duration `json:"took"`
	Error  string   `json:"error,omitempty"` // "": it answers
	Hint   string   `json:"hint,omitempty"`
}
