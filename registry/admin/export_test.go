package admin

import (
	"net/http"
	"time"
)

// AwaitLeave has a client send no blob before the daemon says that it wants it, on a slow machine too.
func (c *Client) AwaitLeave() {
	c.http.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
}
