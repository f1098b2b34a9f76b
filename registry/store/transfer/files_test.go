//go:build !(s3 && postgres)

package transfer_test

import "testing"

func testAll(m *testing.M) int { return m.Run() }

// others are the kinds of stores that a test copies from or to. With the tags s3 and postgres there
// are more.
func others(*testing.T) map[string]func(*testing.T) place {
	return map[string]func(*testing.T) place{"SQLite and files": inFiles}
}
