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

	Counts UpstreamCounts `json:"counts"`
}

// UpstreamCounts are what was counted since the start of the registry of the host of an upstream, over
// all upstreams that lead there.
type UpstreamCounts struct {
	Answers int64 `json:"answers"` // to clients, with a manifest or a layer
	Held    int64 `json:"held"`    // of these, those with what was held
	Stale   int64 `json:"stale"`   // with what was held, since the upstream could not be asked
	// Requests are those to the upstream, and Failed those of them that it did not answer, or with a refusal.
	Requests  int64 `json:"requests"`
	Failed    int64 `json:"failed"`
	Bytes     int64 `json:"bytes"`     // of layers that came
	Downloads int64 `json:"downloads"` // layers that are coming
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
