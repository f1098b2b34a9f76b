package sealed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// The names of rows.
const (
	caRow   = "CA"
	leafRow = "certificate"
)

// pair is the text of a row.
type pair struct {
	Certificate string `json:"certificate"` // PEM, of a CA or a chain
	Key         string `json:"key"`
}

// Alone is what one daemon does alone, see store.Alone.
type Alone interface {
	Within(ctx context.Context) (context.Context, context.CancelFunc)
	Release()
}

// Options are the options of Open.
type Options struct {
	Rows     *sharedrows.Sealed
	Alone    func(ctx context.Context) (Alone, error) // has this daemon be the one that changes the certificate
	Key      *Key
	CAFile   string // of this host
	KeyFile  string // of its key
	Hostname string // for a CA that is made
	Log      *slog.Logger
}

// Certificates are the CA and the certificate of the daemons of one database. They are the
// tlsgen.Shared of the certificate.
type Certificates struct {
	rows  *sharedrows.Sealed
	alone func(ctx context.Context) (Alone, error)
	key   *Key
	text  pair // of the CA of this daemon

	mu   sync.Mutex       // guards what follows
	ca   sharedrows.Value // the row of that CA
	lock Alone            // while this daemon changes the certificate; nil: it does not
}

// Open returns the certificates, with the CA that all daemons have: that of the rows, in the place of
// which the first daemon puts that of its files, or a new one where there are none. The files are those
// of the rows then; another CA that they had is kept beside them.
func Open(ctx context.Context, o Options) (*Certificates, *tlsgen.CA, error) {
	c := &Certificates{rows: o.Rows, alone: o.Alone, key: o.Key}
	there, err := c.rows.Get(ctx, caRow)
	if err != nil {
		return nil, nil, fmt.Errorf("read the CA that the daemons share: %w", err)
	}
	if there == nil {
		if there, err = c.offer(ctx, o); err != nil {
			return nil, nil, err
		}
	}
	p, err := c.read(caRow, *there)
	if err != nil {
		return nil, nil, err
	}
	ca, err := tlsgen.ParseCA([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		return nil, nil, err
	}
	if len(ca.Refuses([]string{o.Hostname})) > 0 {
		return nil, nil, hint.New(fmt.Errorf("the CA that the daemons share may not sign for %s (its name constraints)", o.Hostname),
			"all daemons have one hostname, that of the balancer: correct hostname in config.yaml; to give all of them another one, and a new CA, change it at each "+
				"host, move the files of the CA away, then: appliance cert unshare, and restart all")
	}
	ca, err = tlsgen.TakeCA(o.CAFile, o.KeyFile, []byte(p.Certificate), []byte(p.Key), o.Log)
	c.ca, c.text = *there, p
	return c, ca, err
}

// offer adds the CA of this host's files, and returns the one that there is then.
func (c *Certificates) offer(ctx context.Context, o Options) (*sharedrows.Value, error) {
	certPEM, keyPEM, err := tlsgen.ReadCA(o.CAFile, o.KeyFile)
	if err == nil && certPEM == nil {
		var made *tlsgen.CA
		if made, err = tlsgen.CreateCA(tlsgen.CAName(o.Hostname), time.Now(), o.Hostname, "localhost"); err == nil {
			certPEM, keyPEM = made.CertPEM(), made.KeyPEM()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the CA that the daemons are to share: %w", err)
	}
	v, err := c.write(caRow, certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	there, err := c.rows.Add(ctx, caRow, v)
	if err != nil {
		return nil, fmt.Errorf("share the CA with other daemons: %w", err)
	}
	return there, nil
}

func (c *Certificates) write(name string, certPEM, keyPEM []byte) (sharedrows.Value, error) {
	text, err := json.Marshal(pair{string(certPEM), string(keyPEM)})
	return c.key.close(name, text), err
}

func (c *Certificates) read(name string, v sharedrows.Value) (p pair, err error) {
	text, err := c.key.open(name, v)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// same reports whether the daemons still have the CA that this one has: false without an error if the
// rows are gone.
func (c *Certificates) same(ctx context.Context) (bool, error) {
	now, err := c.rows.Get(ctx, caRow)
	if err != nil || now == nil {
		return false, err
	}
	p, err := c.read(caRow, *now)
	if err != nil {
		return false, err
	}
	if p != c.text {
		return false, hint.New(errors.New("the daemons of this database have been given another CA"), "restart this daemon, which takes it over: systemctl restart appliance")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ca = *now // it may have been written anew
	return true, nil
}

// Load returns the certificate and its key, nil if there is none.
func (c *Certificates) Load(ctx context.Context) (certPEM, keyPEM []byte, err error) {
	if same, err := c.same(ctx); err != nil || !same {
		return nil, nil, err
	}
	v, err := c.rows.Get(ctx, leafRow)
	if err != nil || v == nil {
		return nil, nil, err
	}
	p, err := c.read(leafRow, *v)
	return []byte(p.Certificate), []byte(p.Key), err
}

// waitEvery is how often a daemon looks whether another one has changed the certificate.
const waitEvery = time.Second

// Lock has this daemon be the one that changes the certificate, until unlock.
func (c *Certificates) Lock(ctx context.Context) (unlock func(), err error) {
	for {
		alone, err := c.alone(ctx)
		if _, held := store.IsHeld(err); held {
			if err := retry.Sleep(ctx, waitEvery); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.lock = alone
		c.mu.Unlock()
		return func() {
			c.mu.Lock()
			c.lock = nil
			c.mu.Unlock()
			alone.Release()
		}, nil
	}
}

// Store writes the certificate for all daemons, within Lock.
func (c *Certificates) Store(ctx context.Context, certPEM, keyPEM []byte) error {
	v, err := c.write(leafRow, certPEM, keyPEM)
	if err != nil {
		return err
	}
	c.mu.Lock()
	lock, ca := c.lock, c.ca
	c.mu.Unlock()
	if lock == nil {
		return errors.New("another daemon may change the certificate")
	}
	ctx, end := lock.Within(ctx)
	defer end()
	put, err := c.rows.Put(ctx, leafRow, v, caRow, ca)
	if err == nil && !put {
		err = hint.New(errors.New("the daemons of this database do not share this daemon's CA any more"),
			"restart this daemon, which shares that of its files if there is none: systemctl restart appliance")
	}
	return err
}
