package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Version is a minor version of OpenShift.
type Version struct{ Major, Minor int }

// String returns it as in stable-4.20.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (v Version) from(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// check rejects versions without an agent-based installer.
func (v Version) check() error {
	if v.from(4, 12) {
		return nil
	}
	return hint.New(fmt.Errorf("OpenShift %s has no agent-based installer, which these files are for", v),
		"it exists from 4.12 on; for an older cluster: appliance mirror resources -o DIR")
}

// What a version understands. Each field of the files whose version matters asks here.

// digestSources: imageDigestSources in install-config.yaml, imageContentSources before. The
// installer rejects a file with both.
func (v Version) digestSources() bool { return v.from(4, 14) }

// sourcePolicy: imageDigestSources[].sourcePolicy.
func (v Version) sourcePolicy() bool { return v.from(4, 21) }

// mirrorSets: ImageDigestMirrorSet and ImageTagMirrorSet, ImageContentSourcePolicy before.
func (v Version) mirrorSets() bool { return v.from(4, 13) }

// clusterCatalogs: ClusterCatalog of olm.operatorframework.io/v1, that is OLM v1.
func (v Version) clusterCatalogs() bool { return v.from(4, 18) }

// agentConfig returns the apiVersion of an AgentConfig. 4.12 came with v1alpha1 in its
// documentation, and its last builds with both.
func (v Version) agentConfig() string {
	if v.from(4, 13) {
		return "v1beta1"
	}
	return "v1alpha1"
}

// policyFileOption reports whether the oc of this version may know --icsp-file only.
func (v Version) policyFileOption() bool { return !v.from(4, 15) }

// releaseRepositories are the names that a payload gives to releases and their components.
func (v Version) releaseRepositories() []string {
	const vendor = "quay.io/openshift-release-dev/"
	all := []string{vendor + "ocp-release", componentsOf4}
	if v.from(5, 0) {
		all = append(all, componentsOf5)
	}
	return all
}

const (
	componentsOf4 = "quay.io/openshift-release-dev/ocp-v4.0-art-dev"
	componentsOf5 = "quay.io/openshift-release-dev/ocp-v5.0-art-dev"
)

// wanted is a version as a user names it.
type wanted struct {
	Version
	exact *semver.Version // nil: any of the minor version
}

// parseVersion reads 4.20 and 4.20.3, and with an architecture 4.20.3-x86_64.
func parseVersion(s string) (wanted, string, error) {
	arch := ""
	if before, after, ok := cutLast(s, "-"); ok && machines[after] != "" {
		s, arch = before, after
	}
	bad := hint.New(fmt.Errorf("--version %q is not a version of OpenShift", s), "for example --version 4.20, or --version 4.20.3")
	if major, minor, ok := strings.Cut(s, "."); ok && !strings.Contains(minor, ".") {
		x, err := strconv.ParseUint(major, 10, 16)
		y, err2 := strconv.ParseUint(minor, 10, 16)
		if err != nil || err2 != nil {
			return wanted{}, "", bad
		}
		return wanted{Version: Version{int(x), int(y)}}, arch, nil
	}
	exact, err := semver.Parse(s)
	if err != nil || exact.Major > 1<<16 || exact.Minor > 1<<16 {
		return wanted{}, "", bad
	}
	return wanted{versionOf(exact), &exact}, arch, nil
}

func versionOf(v semver.Version) Version { return Version{int(v.Major), int(v.Minor)} }

// Enforces reports whether nodes of a version, such as 4.22.1, verify the signature of each image of a
// release. An unknown version does not.
func Enforces(version string) bool {
	want, _, err := parseVersion(version)
	return err == nil && want.Version.from(4, 22)
}
