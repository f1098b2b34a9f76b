package config

// Sample returns a commented config.yaml with every key.
func Sample() []byte { return append([]byte(nil), sample...) }
