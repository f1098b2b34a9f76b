package main

import (
	"path/filepath"

	"github.com/spf13/pflag"
)

// certificateOptions are the flags that name the user's own certificate.
type certificateOptions struct {
	cert, key string
	checkSkip bool
}

func (o *certificateOptions) addFlags(f *pflag.FlagSet) {
	pathVar(f, &o.cert, "sslCert", "", "your own certificate with its chain, PEM, to be copied (default: a CA is made, and renews by itself)")
	pathVar(f, &o.key, "sslKey", "", "its key, without a passphrase")
	f.BoolVar(&o.checkSkip, "sslCheckSkip", false, "accept one that is for another host name")
}

// absolute resolves relative files against the current directory.
func (o *certificateOptions) absolute() (err error) {
	for _, file := range []*string{&o.cert, &o.key} {
		if *file != "" {
			if *file, err = filepath.Abs(*file); err != nil {
				return err
			}
		}
	}
	return nil
}
