package console

import (
	"net/http"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// home is the first page: the overview for administrators, and for others what they may see.
func (v *visit) home() error {
	if !v.session.May(auth.Administer) {
		http.Redirect(v.w, v.r, repositoriesPath, http.StatusSeeOther)
		return nil
	}
	status, err := v.c.api.Status(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("overview", "overview", "overview.title", status)
}

func (v *visit) overviewLive() error {
	return v.live("overview", "now", func() (any, error) { return v.c.api.Status(v.r.Context()) })
}
