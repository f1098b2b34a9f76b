package host

type Host struct{}

func Local() *Host { return &Host{} }
