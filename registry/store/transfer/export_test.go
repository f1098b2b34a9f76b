package transfer

// Names returns the tables that are copied.
func Names() (all []string) {
	for _, t := range tables {
		all = append(all, t.name)
	}
	return all
}

// Left returns the tables that are not, with the reasons.
func Left() map[string]string { return left }
