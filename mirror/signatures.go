package mirror

import (
	"errors"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// Signatures are how signatures are verified.
type Signatures struct {
	// Releases gets the signatures of releases; nil: none is looked for.
	Releases *signature.Client
	// IgnoreRelease looks for none of the release that platform.release names.
	IgnoreRelease bool
	// Remove mirrors images without their signatures and other attachments.
	Remove bool
	// Trust is a policy that every image must meet; nil takes any.
	Trust     *signature.Trust
	Lookaside *signature.Lookaside
	// Strict makes an image that is not signed, and should be, a failure.
	Strict bool
}

// releaseSignatures returns what gets the signatures of the image set's releases, or nil.
func (e *engine) releaseSignatures() *signature.Client {
	if e.o.Signatures.IgnoreRelease && e.o.Config.Mirror.Platform.Release != "" {
		return nil
	}
	return e.o.Signatures.Releases
}

// requireSignatures turns images that are not signed into failures, if that is asked for.
func (e *engine) requireSignatures(p *plan.Plan) {
	if !e.o.Signatures.Strict {
		return
	}
	errs := map[*plan.Image]error{}
	for _, i := range p.Images {
		if len(i.Unsigned) > 0 {
			errs[i] = hint.New(errors.New("it is not signed: "+strings.Join(i.Unsigned, "; ")),
				"--signature-verification best-effort mirrors it, and lists it as not signed")
		}
	}
	separate(p, errs)
}
