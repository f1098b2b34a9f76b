package installer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/config"
)

// PullerUser is the user whose secret goes to every node of a cluster. It cannot write.
const PullerUser = "puller"

// PullSecretFile returns where an install leaves that secret, in the form that a cluster's
// install-config takes.
func PullSecretFile(quayRoot string) string {
	return filepath.Join(filepath.Dir(config.Path(quayRoot)), "pull-secret.json")
}

// notShown is a file with the name of a user, while that user's password is a generated one that no
// run has shown.
func (in Installation) notShown() string {
	return filepath.Join(filepath.Dir(config.Path(in.QuayRoot)), ".password-not-shown")
}

// seeding is what seedUsers has found and done, or would do.
type seeding struct {
	admin    string // the administrator that the install is about
	password bool   // the password of it is new
	puller   bool   // that of the puller is new
	first    bool   // and clusters had none before
	kept     bool   // the puller is another's, and keeps its own
	role     string // of a puller that may do more than pull, and is left alone; empty: it may not
}

// seedUsers makes the first users through the control socket. It does not change an administrator
// that exists, but a given password must be theirs. The puller is the install's own: it gets a new
// password where its file is lost or the daemon refuses what the file has.
func seedUsers(ctx context.Context, in Installation) (done seeding, err error) {
	control, err := in.control()
	if err != nil {
		return done, err
	}
	defer control.Close()
	users, err := control.Users(ctx)
	if err != nil {
		return done, err
	}
	if done, err = in.foresee(ctx, users); err != nil {
		return done, err
	}
	in.InitUser = done.admin
	if done.password, err = seedAdmin(ctx, control, in, named(users, in.InitUser) != nil); err != nil || !done.puller {
		return done, err
	}
	return done, seedPuller(ctx, control, in, named(users, PullerUser) != nil)
}

// foreseeUsers returns what seedUsers would do.
func foreseeUsers(ctx context.Context, in Installation) (seeding, error) {
	control, err := in.control()
	if err != nil {
		return seeding{}, err
	}
	defer control.Close()
	users, err := control.Users(ctx)
	if err != nil {
		return seeding{}, err
	}
	return in.foresee(ctx, users)
}

func (in Installation) foresee(ctx context.Context, users []api.User) (s seeding, err error) {
	if !in.Named {
		in.InitUser = in.administrator(users)
	}
	s.admin = in.InitUser
	s.password = named(users, in.InitUser) == nil || in.isNotShown()
	puller := named(users, PullerUser)
	login, _ := readSecret(host.Local(), in.QuayRoot, in.Config)
	switch {
	case puller == nil:
		s.puller = true
	case puller.Role != string(auth.Pull): // a new password in the file would let nodes write
		s.role = puller.Role
	case login != "":
		right, err := CheckAuth(ctx, in.Config, login)
		if err != nil {
			return s, err
		}
		s.puller = !right
	default:
		s.puller = !in.Adopted
	}
	s.first = puller == nil && login == ""
	s.kept = in.Adopted && !s.puller && in.lacksSecret()
	return s, nil
}

// control returns a client of the daemon's control socket.
func (in Installation) control() (*client.Client, error) {
	uid := os.Geteuid()
	if in.Owner != "" {
		owner, err := host.Local().User(in.Owner)
		if err != nil {
			return nil, err
		}
		uid = owner.UID
	}
	return client.NewUnixOf(in.Config.ControlSocket, uid), nil
}

func (in Installation) lacksSecret() bool {
	ok, err := host.Local().Exists(PullSecretFile(in.QuayRoot))
	return err == nil && !ok
}

// named returns the user of a name, nil if there is none.
func named(users []api.User, name string) *api.User {
	if i := slices.IndexFunc(users, func(u api.User) bool { return u.Name == name }); i >= 0 {
		return &users[i]
	}
	return nil
}

// administrator returns the one that a run without --initUser is about. It is not made beside
// another, whose password may be one that no run has shown.
func (in Installation) administrator(users []api.User) string {
	if name, err := host.Local().ReadFile(in.notShown()); err == nil && named(users, string(name)) != nil {
		return string(name)
	}
	if named(users, in.InitUser) != nil {
		return in.InitUser
	}
	for _, u := range users {
		if u.Role == string(auth.Admin) {
			return u.Name
		}
	}
	return in.InitUser
}

// seedAdmin makes the administrator, and reports whether its password is new.
func seedAdmin(ctx context.Context, control *client.Client, in Installation, exists bool) (bool, error) {
	switch {
	case !exists:
		if in.Generated {
			if err := writeSecret(in.notShown(), []byte(in.InitUser)); err != nil {
				return false, err
			}
		}
		user := api.NewUser{Name: in.InitUser, Role: string(auth.Admin), Password: in.InitPassword}
		if _, err := control.CreateUser(ctx, user); err != nil {
			return false, fmt.Errorf("create user %s: %w", in.InitUser, err)
		}
		return true, nil
	case in.isNotShown():
		change := api.UserChange{Password: in.InitPassword}
		if _, err := control.ChangeUser(ctx, in.InitUser, change); err != nil {
			return false, fmt.Errorf("set the password of user %s: %w", in.InitUser, err)
		}
		return true, nil
	case !in.Generated:
		return false, checkInitPassword(ctx, in)
	}
	return false, nil
}

func (in Installation) isNotShown() bool {
	name, err := host.Local().ReadFile(in.notShown())
	return err == nil && string(name) == in.InitUser
}

// checkInitPassword returns an error unless the password that was given is that of the user.
func checkInitPassword(ctx context.Context, in Installation) error {
	right, err := CheckLogin(ctx, in.Config, in.InitUser, in.InitPassword)
	if err == nil && !right {
		err = hint.New(
			fmt.Errorf("user %s exists and has another password than the one given", in.InitUser),
			"leave --initPassword out to keep it, or set a new one: appliance user passwd "+in.InitUser)
	}
	return err
}

// CheckLogin reports whether the daemon accepts a login. It logs in as a client does, but at
// localhost: the host may not resolve its public name.
func CheckLogin(ctx context.Context, cfg *config.Config, user, password string) (bool, error) {
	trust, err := trusted(cfg)
	if err != nil {
		return false, err
	}
	address := net.JoinHostPort("localhost", strconv.Itoa(cfg.PortHere()))
	control, err := client.Dial(ctx, address, user, password, trust)
	if err == nil {
		control.Close()
		return true, nil
	}
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
		return false, nil
	}
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		return true, nil // the password is right, the role is another
	}
	return false, err
}

// seedPuller makes the puller, or gives the one that exists a new password. The secret stands in a file
// for the owner alone, and nowhere else. The file comes first: another install does not know the password
// of a user that exists.
func seedPuller(ctx context.Context, control *client.Client, in Installation, exists bool) error {
	password := rand.Text()
	login := base64.StdEncoding.EncodeToString([]byte(PullerUser + ":" + password))
	secret, err := secretText(in.Config, map[string]string{"auth": login})
	if err != nil {
		return err
	}
	if err := writeSecret(PullSecretFile(in.QuayRoot), secret); err != nil {
		return err
	}
	if exists {
		_, err = control.ChangeUser(ctx, PullerUser, api.UserChange{Password: password})
	} else {
		_, err = control.CreateUser(ctx, api.NewUser{Name: PullerUser, Role: string(auth.Pull), Password: password})
	}
	if err != nil {
		return fmt.Errorf("create user %s: %w", PullerUser, err)
	}
	return nil
}

// CheckAuth is CheckLogin for the auth of a pull secret.
func CheckAuth(ctx context.Context, cfg *config.Config, login string) (bool, error) {
	text, err := base64.StdEncoding.DecodeString(login)
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok || user == "" || password == "" {
		return false, nil
	}
	return CheckLogin(ctx, cfg, user, password)
}

// readSecret returns the auth that the puller's file has for the registry, "" without one.
func readSecret(h *host.Host, quayRoot string, cfg *config.Config) (string, error) {
	content, err := h.ReadFile(PullSecretFile(quayRoot))
	if err != nil {
		return "", err
	}
	var have struct {
		Auths map[string]struct{ Auth string }
	}
	if json.Unmarshal(content, &have) != nil {
		return "", nil
	}
	for _, address := range cfg.Addresses() {
		if a := have.Auths[address].Auth; a != "" {
			return a, nil
		}
	}
	return "", nil
}

// secretText returns a pull secret with one login for each address of the registry.
func secretText(cfg *config.Config, login any) ([]byte, error) {
	auths := make(map[string]any)
	for _, address := range cfg.Addresses() {
		auths[address] = login
	}
	text, err := json.Marshal(map[string]any{"auths": auths})
	return append(text, '\n'), err
}

// readdressedSecret returns the pull secret for the addresses of the configuration, nil where it has them
// or is not there.
func (s *site) readdressedSecret() []byte {
	content, err := s.Host.ReadFile(s.pullSecret())
	var have struct{ Auths map[string]json.RawMessage }
	if err != nil || json.Unmarshal(content, &have) != nil || len(have.Auths) == 0 {
		return nil
	}
	for _, address := range s.cfg.Addresses() {
		if _, ok := have.Auths[address]; ok {
			continue
		}
		for _, login := range have.Auths { // all are the puller's
			if text, err := secretText(s.cfg, login); err == nil {
				return text
			}
		}
	}
	return nil
}

// writeSecret replaces a file, for the owner of its directory. It does not write through it: the
// owner may be the service, whose link could lead root anywhere.
func writeSecret(path string, data []byte) error {
	h := host.Local()
	dir, err := h.StatTarget(filepath.Dir(path))
	if err != nil {
		return err
	}
	return h.Write(path, bytes.NewReader(data), 0o600, dir.Owner)
}
