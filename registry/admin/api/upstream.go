package api

// Offline is whether the registry asks other hosts.
type Offline struct {
	Offline bool `json:"offline"`
}
