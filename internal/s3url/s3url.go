// Package s3url parses the address of a storage in S3, as a configuration has it:
//
//	s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION
//
// Use Is to tell it from a path, and Parse to read it. Refused: credentials in the address, which is
// shown and logged.
package s3url

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// Address is the place of a storage in S3.
type Address struct {
	Bucket   string
	Prefix   string // of all keys, without slashes at its ends; "" for none
	Endpoint *url.URL
	Region   string
}

const scheme = "s3://"

// Is reports whether text is meant as an address.
func Is(text string) bool { return strings.HasPrefix(text, scheme) }

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixName = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]+$`)
)

// Parse reads an address. Its error does not repeat what may be a password.
func Parse(text string) (Address, error) {
	u, err := url.Parse(text)
	if err != nil || !Is(text) {
		return Address{}, errors.New("it is not an address such as s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION")
	}
	if u.User != nil {
		return Address{}, errors.New("it has credentials, which belong into the environment or a file")
	}
	a := Address{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Region: "us-east-1"}
	if !bucketName.MatchString(a.Bucket) {
		return Address{}, fmt.Errorf("%q is not the name of a bucket", u.Host)
	}
	if a.Prefix != "" && (!prefixName.MatchString(a.Prefix) || strings.Contains("/"+a.Prefix+"/", "/../") || strings.Contains("/"+a.Prefix+"/", "/./")) {
		return Address{}, fmt.Errorf("%q is not a prefix of letters, digits, and _ . - /", u.Path)
	}
	if u.Fragment != "" {
		return Address{}, fmt.Errorf("it has #%s, which has no meaning here", u.Fragment)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, errors.New("its part after ? is malformed")
	}
	for key, values := range query {
		switch {
		case len(values) != 1 || values[0] == "":
			return Address{}, fmt.Errorf("%.40q needs one value", key)
		case key == "endpoint":
			if a.Endpoint, err = endpoint(values[0]); err != nil {
				return Address{}, err
			}
		case key == "region":
			if a.Region = values[0]; !regionName.MatchString(a.Region) {
				return Address{}, fmt.Errorf("%.100q is not the name of a region", a.Region)
			}
		default:
			return Address{}, fmt.Errorf("%.40q is not a parameter; there are endpoint and region", key)
		}
	}
	if a.Endpoint == nil {
		return Address{}, errors.New("the parameter endpoint=https://HOST:PORT is missing")
	}
	return a, nil
}

func endpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("its endpoint is not of the form https://HOST:PORT")
	}
	u.Path = ""
	return u, nil
}

// Shares reports whether clients that are redirected from host, with or without a port, to the endpoint
// may send their login for host along. Clients drop the header Authorization for another host, but not
// for the same name with another port nor, as Go's do, for a name below it. S3 refuses a request with
// two logins.
func (a Address) Shares(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host, endpoint := strings.ToLower(strings.Trim(host, "[].")), strings.ToLower(strings.TrimSuffix(a.Endpoint.Hostname(), "."))
	return endpoint == host || strings.HasSuffix(endpoint, "."+host)
}

// String returns the address without its parameters, for messages.
func (a Address) String() string {
	return strings.TrimSuffix(scheme+a.Bucket+"/"+a.Prefix, "/") + " at " + a.Endpoint.String()
}
