package follow

// SetPage sets how many changes a Follower asks for at once, before Run.
func (f *Follower) SetPage(n int) { f.page = n }
