package admin

import (
	"fmt"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// mirror runs an image set of the configuration. The run lasts as long as its caller listens.
func (h *Handler) mirror(w http.ResponseWriter, r *http.Request) {
	var q api.MirrorRequest
	err := h.isDaemon()
	if err == nil {
		err = decode(r, api.MaxJSON, &q)
	}
	runner, found := h.mirrors[q.ImageSet]
	if err == nil && !found {
		err = badRequest(fmt.Sprintf("the configuration names no image set %q", q.ImageSet),
			"name one of sync in config.yaml, as it is there; after a change of that file restart the service")
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.audit(r, "mirror began", "imageSet", q.ImageSet)
	h.serveJob(w, r, func(progress func(any)) (any, error) {
		return runner.Run(r.Context(), q, func(p api.MirrorProgress) { progress(p) })
	})
}
