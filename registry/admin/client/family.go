package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Exchange tells another appliance of the family what this one knows, and returns what that knows. The
// login of the client is the id of this one and the token of the two. The errors are those of Dial.
func (c *Client) Exchange(ctx context.Context, m api.Exchange) (api.Exchange, error) {
	answer, err := call(ctx, c, api.ExchangeRoles, m)
	return answer, orForeign(err)
}

// Follow makes the registry a follower of another.
func (c *Client) Follow(ctx context.Context, q api.FollowRequest) (api.Followed, error) {
	return callVia(ctx, c, c.patient, api.Follow, q)
}

// StopFollowing makes a follower a registry of its own.
func (c *Client) StopFollowing(ctx context.Context) (api.Family, error) {
	return call(ctx, c, api.StopFollowing, api.None{})
}

// Promote makes the registry the primary. progress may be nil.
func (c *Client) Promote(ctx context.Context, q api.PromoteRequest, progress func(api.PromoteProgress)) (api.Promoted, error) {
	return run(ctx, c, api.Promote, q, progress)
}

// Untrusted reports whether there was no answer since the certificate of the registry was not accepted.
func Untrusted(err error) bool {
	return is[*tls.CertificateVerificationError](err) || is[x509.HostnameError](err) || errors.As(err, new(x509.UnknownAuthorityError))
}
