package registry_test

import (
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/storetest"
)

func TestMain(m *testing.M) { storetest.Run(m) }
