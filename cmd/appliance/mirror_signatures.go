package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// The values of --signature-verification.
const (
	strict     = "strict"
	bestEffort = "best-effort"
)

// signatureOptions are the flags of a mirror about signatures.
type signatureOptions struct {
	verification  string
	ignoreRelease bool
	remove        bool
	secure        bool
	policy        string
	registries    string
}

func (o *signatureOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.verification, "signature-verification", bestEffort,
		"what is not signed and should be: best-effort mirrors it and lists it, strict makes it a failure")
	f.BoolVar(&o.remove, "remove-signatures", false,
		"mirror images without their signatures and other attachments; those of releases are mirrored")
	f.BoolVar(&o.secure, "secure-policy", false, "take only images that the host's policy for containers allows")
	pathVar(f, &o.policy, "policy", "", "the policy of --secure-policy (default ~/.config/containers/policy.json, then /etc/containers/policy.json)")
	pathVar(f, &o.registries, "registries.d", "",
		"where its signatures are (default ~/.config/containers/registries.d, then /etc/containers/registries.d)")
	f.BoolVar(&o.ignoreRelease, "ignore-release-signature", false, "look for no signature of platform.release")
}

func (o *signatureOptions) check() error {
	if o.verification != strict && o.verification != bestEffort {
		return hint.New(fmt.Errorf("--signature-verification %q is unknown", o.verification), "strict or best-effort")
	}
	if o.remove && o.verification == strict {
		return hint.New(errors.New("--remove-signatures and --signature-verification strict cannot be used together"), "leave one of them out")
	}
	return nil
}

// signatures returns how a run verifies signatures. The environment is that of oc-mirror, which
// goes on with the vendor's address and key where this one cannot be used.
func (o *signatureOptions) signatures(get fetch.Client) (s mirror.Signatures, err error) {
	at, err := addressIn("OCP_SIGNATURE_URL", "https://HOST/PATH/, below which are sha256=DIGEST/signature-1 and so on; unset is Red Hat's")
	if err != nil {
		return s, err
	}
	releases := &signature.Client{URL: at, Get: get}
	file := os.Getenv("OCP_SIGNATURE_VERIFICATION_PK")
	if file == "" {
		releases.Keys, err = signature.VendorKeys()
	} else {
		releases.Keys, err = readKeys(file)
	}
	if err != nil {
		return s, err
	}
	s = mirror.Signatures{Releases: releases, IgnoreRelease: o.ignoreRelease, Remove: o.remove,
		Strict: o.verification == strict}
	if o.secure {
		err = o.trust(&s, get)
	}
	return s, err
}

// trust sets the host's policy, and where the signatures are that it asks for.
func (o *signatureOptions) trust(s *mirror.Signatures, get fetch.Client) error {
	policy, err := containersFile(o.policy, "policy.json")
	var raw []byte
	if err == nil {
		raw, err = regular.ReadFile(policy)
	}
	if err == nil {
		s.Trust, err = signature.ParseTrust(raw)
	}
	if err != nil {
		return hint.New(fmt.Errorf("the policy %s: %w", policy, regular.Reason(err)),
			"man containers-policy.json, or name another file: --policy FILE")
	}
	dir, err := containersFile(o.registries, "registries.d")
	if err == nil {
		s.Lookaside, err = signature.ReadLookaside(dir)
	}
	if err != nil {
		return hint.New(fmt.Errorf("registries.d: %w", err),
			"man containers-registries.d, or name another directory: --registries.d DIR")
	}
	s.Lookaside.Get = get
	return nil
}

// containersFile returns the file that is named, else the user's if it exists, else the host's.
func containersFile(named, name string) (string, error) {
	if named != "" {
		_, err := os.Stat(named)
		return named, err
	}
	if home, err := home.Dir(); err == nil {
		file := filepath.Join(home, ".config", "containers", name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return filepath.Join("/etc/containers", name), nil
}

func readKeys(file string) (*signature.Keyring, error) {
	_, keys, err := armoredKeys(file)
	if err != nil {
		return nil, hint.New(fmt.Errorf("OCP_SIGNATURE_VERIFICATION_PK=%s: %w", file, err), "name a file with armored OpenPGP public keys, or unset it for Red Hat's")
	}
	return keys, nil
}

// armoredKeys reads a file of public keys. Its errors do not name it.
func armoredKeys(file string) (text []byte, keys *signature.Keyring, err error) {
	if text, err = regular.ReadFile(file); err == nil {
		keys, err = signature.ParseKeys(text)
	}
	if err != nil {
		return nil, nil, regular.Reason(err)
	}
	return text, keys, nil
}

// addressIn returns the address in an environment variable, "" if it is not set.
func addressIn(variable, next string) (string, error) {
	value := os.Getenv(variable)
	if at, err := url.Parse(value); value != "" && (err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https") {
		return "", hint.New(fmt.Errorf("%s is %q, which is not an address", variable, value), next)
	}
	return value, nil
}

// updateService returns the address of the update service that is asked in the place of the public
// one, "" if there is none.
func updateService() (string, error) {
	return addressIn("UPDATE_URL_OVERRIDE", "https://HOST/api/upgrades_info/graph, or such; unset is the public one")
}
