package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// Keychain finds credentials where podman and docker keep them: in authFile, if it is not empty;
// else in $REGISTRY_AUTH_FILE, if it is set; else in the first of these that has an entry for the
// registry: ${XDG_RUNTIME_DIR}/containers/auth.json (/run/containers/UID/auth.json where that
// variable is not set), ${XDG_CONFIG_HOME}/containers/auth.json, ${DOCKER_CONFIG}/config.json,
// ~/.docker/config.json.
//
// Entries may name a namespace (quay.io/org). The longest that fits wins, as
// containers-auth.json(5) says. Credential helpers are asked. A helper whose program is not on this
// host counts as a file without an entry: public repositories need no login.
//
// Refused: go-containerregistry's keychain, which reads docker's file before podman's, takes no
// file by name, and does not match namespaces.
//
// The files are read when credentials are needed, so that a new login takes effect. A named file
// that does not exist, and any file that is malformed, is an error then.
func Keychain(authFile string) authn.Keychain {
	return keychain{authFile: authFile, getenv: os.Getenv, run: "/run/containers", uid: os.Getuid()}
}

type keychain struct {
	authFile string
	getenv   func(string) string
	run      string // where users without XDG_RUNTIME_DIR have a directory each
	uid      int
}

// authFileError does not wrap the cause: "no such file" is not "no such image".
func authFileError(file string, cause error) error {
	advice := fmt.Sprintf("check that it is readable and what podman or docker writes (jq . %s), or make it anew: podman login --authfile FILE REGISTRY", file)
	if errors.Is(cause, fs.ErrNotExist) {
		advice = fmt.Sprintf("name the file that has the credentials with --authfile, or make it: podman login --authfile %s REGISTRY", file)
	}
	return hint.New(fmt.Errorf("credentials file %s: %v", file, regular.Reason(cause)), advice)
}

// Resolve returns the credentials for a registry or repository.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	auth, _, err := k.find(target)
	switch {
	case err != nil:
		return nil, err
	case auth != nil:
		return authn.FromConfig(*auth), nil
	}
	return authn.Anonymous, nil
}

// find returns the credentials for target, or nil and, if a file names one, the program that might
// have them and is not on this host.
func (k keychain) find(target authn.Resource) (auth *authn.AuthConfig, missing string, err error) {
	files, named := k.files()
	for _, file := range files {
		auth, err := resolveIn(file, target)
		if !named && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var without *missingHelper
		if errors.As(err, &without) {
			missing = without.program
			continue
		}
		if err != nil {
			return nil, "", authFileError(file, err)
		}
		if auth != nil {
			return auth, "", nil
		}
	}
	return nil, missing, nil
}

// missingHelper reports a credential helper without a program.
type missingHelper struct{ program string }

func (e *missingHelper) Error() string { return e.program + " is not on this host" }

// helperMissing returns the program that might have credentials for target and is not on this host,
// "" if there is none.
func helperMissing(k authn.Keychain, target authn.Resource) string {
	files, ok := k.(keychain)
	if !ok {
		return ""
	}
	_, missing, _ := files.find(target) // an error was reported by Resolve
	return missing
}

// files returns the files to read, in order. named: the user named the only one.
func (k keychain) files() (files []string, named bool) {
	if k.authFile != "" {
		return []string{k.authFile}, true
	}
	if file := k.getenv("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}, true
	}
	home := k.getenv("HOME")
	if dir := k.getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	} else if dir := fmt.Sprintf("%s/%d", k.run, k.uid); reachable(dir) {
		files = append(files, filepath.Join(dir, "auth.json"))
	}
	if dir := k.getenv("XDG_CONFIG_HOME"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	} else if home != "" {
		files = append(files, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	if dir := k.getenv("DOCKER_CONFIG"); dir != "" {
		files = append(files, filepath.Join(dir, "config.json"))
	}
	if home != "" {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	return files, false
}

// reachable reports whether a directory can be looked into, or does not exist. The one above those of
// all users may be root's alone: podman makes it so when root runs it first.
func reachable(dir string) bool {
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrPermission)
}

// authFile has the common fields of the files of podman and docker.
type authFile struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredHelpers map[string]string          `json:"credHelpers"`
	CredsStore  string                     `json:"credsStore"`
}

// Logins finds credentials in a text as podman writes it, such as a pull secret.
func Logins(text []byte) authn.Keychain { return logins(text) }

type logins []byte

// Resolve returns the credentials for a registry or repository.
func (l logins) Resolve(target authn.Resource) (authn.Authenticator, error) {
	auth, err := resolveFrom(l, target)
	if err != nil || auth == nil {
		return authn.Anonymous, err
	}
	return authn.FromConfig(*auth), nil
}

// resolveIn returns the credentials for target in one file, nil if there are none.
func resolveIn(file string, target authn.Resource) (*authn.AuthConfig, error) {
	data, err := regular.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return resolveFrom(data, target)
}

// resolveFrom is resolveIn for the text of a file.
func resolveFrom(data []byte, target authn.Resource) (*authn.AuthConfig, error) {
	var f authFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("not a credentials file: %w", redactJSON(err))
	}
	host := canonicalHost(target.RegistryStr())
	for key, helper := range f.CredHelpers {
		if canonicalKey(key) == host {
			return askHelper(helper, key)
		}
	}
	for _, candidate := range candidates(host, target.String()) {
		if entry, key, ok := f.lookup(candidate); ok {
			auth, err := parseEntry(entry)
			if err != nil {
				return nil, fmt.Errorf("the entry for %s: %w", key, err)
			}
			if auth != nil {
				return auth, nil
			}
		}
	}
	if f.CredsStore != "" {
		return askHelper(f.CredsStore, dockerServer(host))
	}
	return nil, nil
}

// redactJSON removes values, which may be secrets, from an error of package json.
func redactJSON(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("the value at byte %d is of the wrong kind", wrong.Offset)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("malformed JSON at byte %d", syntax.Offset)
	}
	return errors.New(`"auth" is not the base64 of user:password`)
}

// candidates returns the keys that match a repository, the longest first.
func candidates(host, repository string) []string {
	_, path, _ := strings.Cut(repository, "/")
	if path == "" || !strings.Contains(repository, "/") {
		return []string{host}
	}
	var keys []string
	for key := host + "/" + path; key != host; key = key[:strings.LastIndex(key, "/")] {
		keys = append(keys, key)
	}
	return append(keys, host)
}

// lookup returns the entry for a candidate: an exact match, before one in docker's old form
// ("https://index.docker.io/v1/"), before one with or without the port of HTTPS.
func (f authFile) lookup(candidate string) (json.RawMessage, string, bool) {
	if entry, ok := f.Auths[candidate]; ok {
		return entry, candidate, true
	}
	for key, entry := range f.Auths {
		if canonicalKey(key) == candidate {
			return entry, key, true
		}
	}
	for key, entry := range f.Auths {
		if withoutPort(canonicalKey(key)) == withoutPort(candidate) {
			return entry, key, true
		}
	}
	return nil, "", false
}

// withoutPort removes the port of HTTPS, which either the login or the image reference may omit.
func withoutPort(key string) string {
	host, path, found := strings.Cut(key, "/")
	host = strings.TrimSuffix(host, ":443")
	if found {
		return host + "/" + path
	}
	return host
}

// canonicalKey returns host[/namespace] for each way to write it.
func canonicalKey(key string) string {
	bare := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(strings.TrimSuffix(bare, "/"), "/")
	if bare != key && (path == "v1" || path == "v2") {
		path = ""
	}
	if path == "" {
		return canonicalHost(host)
	}
	return canonicalHost(host) + "/" + path
}

func canonicalHost(host string) string {
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

// dockerServer returns the name of a registry for docker's helpers.
func dockerServer(host string) string {
	if host == "docker.io" {
		return authn.DefaultAuthKey
	}
	return host
}

// parseEntry returns the credentials of an entry, nil for an empty one, which docker writes beside
// a credential helper.
func parseEntry(entry json.RawMessage) (*authn.AuthConfig, error) {
	var c authn.AuthConfig
	if err := json.Unmarshal(entry, &c); err != nil {
		return nil, redactJSON(err)
	}
	c.Auth, c.Password = "", strings.TrimRight(c.Password, "\x00")
	if c == (authn.AuthConfig{}) {
		return nil, nil
	}
	return &c, nil
}

// askHelper runs docker-credential-<name>.
func askHelper(name, server string) (*authn.AuthConfig, error) {
	if name == "" || strings.ContainsAny(name, `/\`) {
		return nil, fmt.Errorf("%q is not the name of a credential helper", name)
	}
	program := "docker-credential-" + name
	if _, err := exec.LookPath(program); errors.Is(err, exec.ErrNotFound) {
		return nil, &missingHelper{program}
	}
	got, err := client.Get(client.NewShellProgramFunc(program), server)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("credential helper %s, asked for %s: %s", program, server, oneLine(err.Error()))
	case got.Username == "<token>":
		return &authn.AuthConfig{IdentityToken: got.Secret}, nil
	}
	return &authn.AuthConfig{Username: got.Username, Password: got.Secret}, nil
}
