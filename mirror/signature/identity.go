package signature

import (
	"fmt"
	"strings"
)

// identity is how the reference in a signature and that of an image are compared.
type identity struct {
	Type             string
	DockerReference  string
	DockerRepository string
	Prefix           string
	SignedPrefix     string
}

func (d *identity) check() error {
	switch d.Type {
	case "matchExact", "matchRepoDigestOrExact", "matchRepository":
		return nil
	case "exactReference", "exactRepository", "remapIdentity":
		if d.DockerReference+d.DockerRepository == "" && (d.Prefix == "" || d.SignedPrefix == "") {
			return fmt.Errorf("signedIdentity %s names nothing", d.Type)
		}
		return nil
	}
	return fmt.Errorf("signedIdentity %q is unknown", d.Type)
}

// matches checks the reference of a signature.
func (d *identity) matches(i Image, signed string) error {
	repository := i.Repository
	ok := false
	switch d.Type {
	case "matchRepository":
		ok = repositoryOf(signed) == repository
	case "exactReference":
		ok = signed == d.DockerReference
	case "exactRepository":
		ok = repositoryOf(signed) == d.DockerRepository
	case "matchExact":
		ok = i.Tag != "" && signed == repository+":"+i.Tag
	default: // an image by digest is that of its repository, one by tag that of the tag
		if rest, in := strings.CutPrefix(repository, d.Prefix); d.Type == "remapIdentity" && in &&
			(rest == "" || rest[0] == '/') {
			repository = d.SignedPrefix + rest
		}
		ok = repositoryOf(signed) == repository && (i.Tag == "" || signed == repository+":"+i.Tag)
	}
	if !ok {
		return fmt.Errorf("it is the signature of %s", signed)
	}
	return nil
}
