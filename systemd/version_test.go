package systemd

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]int{
		`"252.39-1~deb12u1"`: 252, `"239 (239-82.el8)"`: 239, `"v256~rc1"`: 256, `"257"`: 257, `""`: 0, `"main"`: 0,
	} {
		if got, err := parseVersion(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %d, %v, want %d", text, got, err, want)
		}
	}
}

// old are the settings that Oldest knows, by systemd's NEWS.
const old = `Description Documentation Requires After Wants RequiresMountsFor StartLimitIntervalSec Type ExecStart
	Sockets NonBlocking User Group UMask LimitNOFILE MemoryHigh MemoryMax Restart RestartSec ExecReload WatchdogSec
	TimeoutStopSec NoNewPrivileges CapabilityBoundingSet ProtectSystem TemporaryFileSystem ProtectHome BindPaths
	BindReadOnlyPaths ReadWritePaths PrivateTmp PrivateDevices ProtectKernelTunables ProtectKernelModules
	ProtectControlGroups RestrictAddressFamilies RestrictNamespaces RestrictRealtime LockPersonality
	MemoryDenyWriteExecute RemoveIPC SystemCallArchitectures SystemCallFilter SystemCallErrorNumber WantedBy Alias Also
	ListenStream BindIPv6Only Backlog NoDelay KeepAlive FileDescriptorName Before ConditionPathExists`

// A setting that is new in the units has its version in since, or was looked up.
func TestUnits_settingsHaveTheirVersion(t *testing.T) {
	known := append(strings.Fields(old), slices.Collect(maps.Keys(since))...)
	names, err := unitTexts.ReadDir("units")
	if err != nil || len(names) < 4 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		text, err := unitTexts.ReadFile("units/" + name.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			key, _, ok := strings.Cut(line, "=")
			if ok && !strings.HasPrefix(line, "#") && !slices.Contains(known, key) {
				t.Errorf("%s: since when does systemd know %s?", name.Name(), key)
			}
		}
	}
}
