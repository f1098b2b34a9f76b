package console

import (
	"net/http"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// upstreamsPage lists the upstreams, with the form that tests them and the switch of the link.
type upstreamsPage struct {
	CSRF      string
	Offline   bool
	Upstreams []api.Upstream
	Prefix    string // of the one that was tested; "": all
	Image     string
	Tested    []api.UpstreamTested
	Error     *problem // of the test
}

func (v *visit) upstreams() error {
	return v.showUpstreams(http.StatusOK, upstreamsPage{Prefix: v.r.URL.Query().Get("prefix"), Image: v.r.URL.Query().Get("image")})
}

func (v *visit) showUpstreams(status int, p upstreamsPage) error {
	if err := v.readUpstreams(&p); err != nil {
		return err
	}
	return v.write(status, "upstreams", "upstreams", "upstreams.title", p)
}

// readUpstreams fills in what moves of the page.
func (v *visit) readUpstreams(p *upstreamsPage) error {
	link, err := v.c.api.Offline(v.r.Context())
	if err != nil {
		return err
	}
	p.CSRF, p.Offline = v.session.CSRF, link.Offline
	p.Upstreams, err = v.c.api.Upstreams(v.r.Context())
	return err
}

func (v *visit) upstreamsLive() error {
	return v.live("upstreams", "upstreams-now", func() (any, error) {
		var p upstreamsPage
		err := v.readUpstreams(&p)
		return p, err
	})
}

// testUpstreams shows the page with what the test found: it changes nothing that another page would show.
func (v *visit) testUpstreams() error {
	p := upstreamsPage{Prefix: v.field("prefix"), Image: v.field("image")}
	q := api.UpstreamTest{Image: p.Image}
	if p.Prefix != "" && p.Image == "" { // an image names its upstream
		q.Prefixes = []string{p.Prefix}
	}
	var err error
	if p.Tested, err = v.c.api.TestUpstreams(v.r.Context(), q); err != nil {
		failed := problemOf(err)
		p.Error = &failed
		return v.showUpstreams(statusOf(err), p)
	}
	return v.showUpstreams(http.StatusOK, p)
}

func (v *visit) setLink() error {
	cut := v.field("offline") == "true"
	if _, err := v.c.api.SetOffline(v.r.Context(), cut); err != nil {
		return err
	}
	text := "upstreams.link.restored"
	if cut {
		text = "upstreams.link.cut"
	}
	return v.done("/upstreams", v.c.views.text(text))
}

// span returns a duration in its largest units: 1h, not 1h0m0s.
func span(d api.Duration) string {
	text := time.Duration(d).String()
	for _, none := range []string{"m0s", "h0m"} {
		if cut := len(text) - len(none) + 1; cut > 0 && text[cut-1:] == none {
			text = text[:cut]
		}
	}
	return text
}
