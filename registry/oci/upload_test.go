package oci

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// begin opens an upload session and returns its Location.
func (f *fixture) begin(repo string) string {
	f.t.Helper()
	return f.do(http.StatusAccepted, "POST", "/v2/"+repo+"/blobs/uploads/", nil).Header.Get("Location")
}

// with adds a parameter to a Location that has parameters.
func with(location, name, value string) string {
	return location + "&" + url.Values{name: {value}}.Encode()
}

func (f *fixture) wantBlob(repo string, d digest.Digest, content []byte) {
	f.t.Helper()
	if got := f.do(http.StatusOK, "GET", "/v2/"+repo+"/blobs/"+d.String(), nil); !bytes.Equal(got.body, content) {
		f.t.Errorf("%s: %d bytes, want %d", d, len(got.body), len(content))
	}
}

// The pushes of clients: podman and skopeo stream one PATCH of unknown length and an empty PUT;
// crane and docker announce the length; others send everything in the PUT, or in chunks.
func TestUpload(t *testing.T) {
	f := newFixture(t, nil)
	content := randomBytes(1, 300_000)
	for name, push := range map[string]func(location string) (string, any){
		"one PATCH, chunked encoding": func(l string) (string, any) {
			got := f.do(http.StatusAccepted, "PATCH", l, bytes.NewBuffer(content))
			got.wantHeader(f.t, "Range", "0-299999")
			return got.Header.Get("Location"), nil
		},
		"all in PUT":                   func(l string) (string, any) { return l, content },
		"all in PUT, chunked encoding": func(l string) (string, any) { return l, bytes.NewBuffer(content) },
		"three chunks": func(l string) (string, any) {
			for i := range 3 {
				got := f.do(http.StatusAccepted, "PATCH", l, content[i*100_000:(i+1)*100_000],
					"Content-Range", fmt.Sprintf("%d-%d", i*100_000, (i+1)*100_000-1))
				got.wantHeader(f.t, "Range", fmt.Sprintf("0-%d", (i+1)*100_000-1))
				l = got.Header.Get("Location")
			}
			return l, nil
		},
		"chunks with HTTP's Content-Range": func(l string) (string, any) {
			got := f.do(http.StatusAccepted, "PATCH", l, content[:7], "Content-Range", "bytes 0-6/300000")
			got.wantHeader(f.t, "Range", "0-6")
			got = f.do(http.StatusAccepted, "PATCH", got.Header.Get("Location"), content[7:], "Content-Range", "bytes 7-299999/*")
			return got.Header.Get("Location"), nil
		},
		"the last chunk in PUT": func(l string) (string, any) {
			l = f.do(http.StatusAccepted, "PATCH", l, content[:7]).Header.Get("Location")
			return l, content[7:]
		},
		"curl's default media type": func(l string) (string, any) {
			l = f.do(http.StatusAccepted, "PATCH", l, content, "Content-Type", "application/x-www-form-urlencoded").Header.Get("Location")
			return l, nil
		},
	} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			t.Run(name+" "+string(algorithm), func(t *testing.T) {
				f.t = t
				repo := "r/" + strings.ToLower(strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name))
				d := algorithm.FromBytes(content)
				location, body := push(f.begin(repo))
				put := f.do(http.StatusCreated, "PUT", with(location, "digest", d.String()), body)
				put.wantHeader(t, "Location", "/v2/"+repo+"/blobs/"+d.String())
				put.wantHeader(t, "Docker-Content-Digest", d.String())
				f.wantBlob(repo, d, content)
				if again := f.do(http.StatusNotFound, "GET", strings.SplitN(location, "?", 2)[0], nil); again.code(t) != codeUploadUnknown {
					t.Errorf("the session outlives its end: %s", again.body)
				}
			})
		}
	}
}

func TestUpload_singlePost(t *testing.T) {
	f := newFixture(t, nil)
	content := []byte("content")
	for _, d := range []digest.Digest{digest.SHA256.FromBytes(content), digest.SHA512.FromBytes(content)} {
		post := f.do(http.StatusCreated, "POST", "/v2/a/blobs/uploads/?digest="+d.String(), content)
		post.wantHeader(t, "Location", "/v2/a/blobs/"+d.String())
		post.wantHeader(t, "Docker-Content-Digest", d.String())
		f.wantBlob("a", d, content)
	}
	for _, bad := range []string{d256, "sha256:x", "md5:" + hex256[:32]} {
		if got := f.do(http.StatusBadRequest, "POST", "/v2/a/blobs/uploads/?digest="+bad, content); got.code(t) != codeDigestInvalid {
			t.Errorf("%s: %s", bad, got.body)
		}
	}
	f.do(http.StatusNotFound, "HEAD", "/v2/a/blobs/"+d256, nil)
}

func TestUpload_status(t *testing.T) {
	f := newFixture(t, nil)
	location := f.begin("a")
	path, _, _ := strings.Cut(location, "?")
	f.do(http.StatusNoContent, "GET", path, nil).wantHeader(t, "Range", "0-0")
	f.do(http.StatusAccepted, "PATCH", location, "0123456789")
	for _, l := range []string{path, location} { // also with an old offset
		status := f.do(http.StatusNoContent, "GET", l, nil)
		status.wantHeader(t, "Range", "0-9")
		location = status.Header.Get("Location")
	}
	location = f.do(http.StatusAccepted, "PATCH", location, "abc").Header.Get("Location")
	f.do(http.StatusCreated, "PUT", with(location, "digest", digest.FromString("0123456789abc").String()), nil)
}

func TestUpload_wrongRange(t *testing.T) {
	f := newFixture(t, nil)
	stale := f.begin("a")
	location := f.do(http.StatusAccepted, "PATCH", stale, "0123456789").Header.Get("Location")
	path, _, _ := strings.Cut(location, "?")
	for name, c := range map[string]struct {
		location, header string
		body             any
	}{
		"a gap":                   {location, "11-12", "ab"},
		"a gap, chunked encoding": {location, "11-12", bytes.NewBufferString("ab")},
		"the same chunk again":    {location, "0-9", "0123456789"},
		"a stale state":           {stale, "", "ab"},
	} {
		for _, method := range []string{"PATCH", "PUT"} {
			t.Run(name+" "+method, func(t *testing.T) {
				f.t = t
				var headers []string
				if c.header != "" {
					headers = []string{"Content-Range", c.header}
				}
				if buffer, ok := c.body.(*bytes.Buffer); ok {
					c.body = bytes.NewBuffer(buffer.Bytes())
				}
				got := f.do(http.StatusRequestedRangeNotSatisfiable, method, with(c.location, "digest", d256), c.body, headers...)
				got.code(t)
				got.wantHeader(t, "Range", "0-9")
				got.wantHeader(t, "Docker-Upload-Uuid", path[strings.LastIndex(path, "/")+1:])
				next := f.do(http.StatusAccepted, "PATCH", got.Header.Get("Location"), "")
				next.wantHeader(t, "Range", "0-9")
			})
		}
	}
	f.t = t
	for header, status := range map[string]int{"x": 400, "5-4": 400, "10-19": 400, "10-9223372036854775807": 400, "10-11": 202} {
		got := f.do(status, "PATCH", location, "ab", "Content-Range", header)
		if status != http.StatusAccepted {
			got.code(t)
		}
	}
}

// A refusal has the Location to continue at, which stays valid across a restart.
func TestUpload_Location_afterARefusal(t *testing.T) {
	content := randomBytes(1, 1000)
	d := digest.FromBytes(content)
	for name, c := range map[string]struct {
		method, digest string
		body           any
		headers        []string
		status         int
		held           int
	}{
		"the same chunk again":        {"PATCH", "", content[:100], []string{"Content-Range", "0-99"}, 416, 100},
		"a gap at the end":            {"PUT", d.String(), content[200:], []string{"Content-Range", "200-999"}, 416, 100},
		"a malformed range":           {"PATCH", "", content[100:], []string{"Content-Range", "x"}, 400, 100},
		"a wrong length":              {"PATCH", "", content[100:200], []string{"Content-Range", "100-300"}, 400, 100},
		"a body that is too short":    {"PATCH", "", bytes.NewBuffer(content[100:200]), []string{"Content-Range", "100-300"}, 400, 200},
		"a malformed digest":          {"PUT", "sha256:x", content[100:], nil, 400, 100},
		"no digest":                   {"PUT", "", content[100:], nil, 400, 100},
		"an unknown digest algorithm": {"PUT", "md5:" + hex256[:32], content[100:], nil, 400, 100},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			location := f.do(http.StatusAccepted, "PATCH", f.begin("a"), content[:100]).Header.Get("Location")
			got := f.do(c.status, c.method, with(location, "digest", c.digest), c.body, c.headers...)
			got.code(t)
			f.close()
			f.open(nil)
			got.wantHeader(t, "Range", fmt.Sprintf("0-%d", c.held-1))
			next := f.do(http.StatusAccepted, "PATCH", got.Header.Get("Location"), content[c.held:], "Content-Range", fmt.Sprintf("%d-999", c.held))
			f.do(http.StatusCreated, "PUT", with(next.Header.Get("Location"), "digest", d.String()), nil)
			f.wantBlob("a", d, content)
		})
	}
}

// A wrong digest ends the session: its content is not the client's.
func TestUpload_Location_afterTheWrongDigest(t *testing.T) {
	f := newFixture(t, nil)
	location := f.do(http.StatusAccepted, "PATCH", f.begin("a"), "content").Header.Get("Location")
	got := f.do(http.StatusBadRequest, "PUT", with(location, "digest", d256), nil)
	got.wantHeader(t, "Location", "")
	f.do(http.StatusNotFound, "GET", location, nil).code(t)
}

// A body of unknown length must match Content-Range.
func TestUpload_wrongLength(t *testing.T) {
	f := newFixture(t, nil)
	for _, body := range []string{"012345678", "0123456789a"} {
		got := f.do(http.StatusBadRequest, "PATCH", f.begin("a"), bytes.NewBufferString(body), "Content-Range", "0-9")
		if got.code(t) != codeSizeInvalid {
			t.Errorf("%d bytes announced as 10: %s", len(body), got.body)
		}
	}
}

func TestUpload_wrongDigest(t *testing.T) {
	f := newFixture(t, nil)
	for _, bad := range []string{"", d256, d512, "sha256:x", "sha384:" + hex256 + hex256[:32], "x"} {
		location := f.do(http.StatusAccepted, "PATCH", f.begin("a"), "content").Header.Get("Location")
		if got := f.do(http.StatusBadRequest, "PUT", with(location, "digest", bad), nil); got.code(t) != codeDigestInvalid {
			t.Errorf("%q: %s", bad, got.body)
		}
	}
	if names, _, err := f.store.Repositories(t.Context(), "", -1); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestUpload_cancel(t *testing.T) {
	f := newFixture(t, nil)
	begun := f.begin("a") // the Location before the PATCH, for a client that missed the answer
	location := f.do(http.StatusAccepted, "PATCH", begun, "content").Header.Get("Location")
	f.do(http.StatusNotFound, "DELETE", strings.Replace(begun, "/v2/a/", "/v2/b/", 1), nil)
	f.do(http.StatusNoContent, "DELETE", begun, nil)
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		if got := f.do(http.StatusNotFound, method, with(location, "digest", d256), nil); got.code(t) != codeUploadUnknown {
			t.Errorf("%s after cancel: %s", method, got.body)
		}
	}
}

// Upload sessions survive a restart, with older Locations too.
func TestUpload_acrossRestart(t *testing.T) {
	f := newFixture(t, nil)
	content := randomBytes(1, 200_000)
	location := f.do(http.StatusAccepted, "PATCH", f.begin("a"), content[:120_000]).Header.Get("Location")
	f.close()
	f.open(nil)
	f.do(http.StatusNoContent, "GET", location, nil).wantHeader(t, "Range", "0-119999")
	d := digest.FromBytes(content)
	f.do(http.StatusCreated, "PUT", with(location, "digest", d.String()), content[120_000:])
	f.wantBlob("a", d, content)
}

// A PATCH that breaks off leaves a session that can be continued.
func TestUpload_brokenConnection(t *testing.T) {
	f := newFixture(t, nil)
	content := randomBytes(1, 200_000)
	location := f.begin("a")
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", location, len(content))
	if _, err := conn.Write(content[:50_000]); err != nil {
		t.Fatal(err)
	}
	// Half-closed, so that an answer marks the end.
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	status := f.do(http.StatusNoContent, "GET", location, nil)
	var held int
	if _, err := fmt.Sscanf(status.Header.Get("Range"), "0-%d", &held); err != nil || held == 0 || held >= 50_000 {
		t.Fatalf("Range %q, %v", status.Header.Get("Range"), err)
	}
	d := digest.FromBytes(content)
	f.do(http.StatusCreated, "PUT", with(status.Header.Get("Location"), "digest", d.String()), content[held+1:])
	f.wantBlob("a", d, content)
}

// A session belongs to a repository, and its Location has its size. A client may continue by the
// path alone, or with the Location of an older version.
func TestUpload_otherLocations(t *testing.T) {
	f := newFixture(t, nil)
	one := f.begin("a")
	f.begin("b")
	path, _, _ := strings.Cut(one, "?")
	for name, l := range map[string]string{
		"of another repository": strings.Replace(one, "/v2/a/", "/v2/b/", 1),
		"an unknown session":    strings.Replace(one, path, "/v2/a/blobs/uploads/nosuch", 1),
		"a way up":              "/v2/a/blobs/uploads/%2e%2e?offset=0",
		"a NUL":                 "/v2/a/blobs/uploads/%00?offset=0",
		"a long name":           "/v2/a/blobs/uploads/" + strings.Repeat("x", 5000) + "?offset=0",
	} {
		for _, method := range []string{"GET", "HEAD", "PATCH", "PUT", "DELETE"} {
			t.Run(name+" "+method, func(t *testing.T) {
				f.t = t
				if got := f.do(http.StatusNotFound, method, with(l, "digest", d256), nil); method != "HEAD" && got.code(t) != codeUploadUnknown {
					t.Errorf("%s", got.body)
				}
			})
		}
	}
	f.t = t
	f.do(http.StatusRequestedRangeNotSatisfiable, "PATCH", path+"?offset=1", "content").code(t)
	f.do(http.StatusAccepted, "PATCH", path, "cont")
	f.do(http.StatusCreated, "PUT", with(path+"?_state=b2xk", "digest", digest.FromString("content").String()), "ent")
}

func TestMount(t *testing.T) {
	f := newFixture(t, nil)
	content := []byte("content")
	d := f.pushBlob("from/here", content).Digest
	for name, query := range map[string]string{"from": "&from=from/here", "anonymous": ""} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			got := f.do(http.StatusCreated, "POST", "/v2/to/"+name+"/blobs/uploads/?mount="+d.String()+query, nil)
			got.wantHeader(t, "Location", "/v2/to/"+name+"/blobs/"+d.String())
			got.wantHeader(t, "Docker-Content-Digest", d.String())
			f.wantBlob("to/"+name, d, content)
		})
	}
	// A blob that cannot be mounted gets an upload session.
	for _, query := range []string{
		"?mount=" + d256 + "&from=from/here", "?mount=" + d256, "?mount=" + d.String() + "&from=nowhere", "?mount=x&from=from/here",
		"?mount=x", "?mount=" + d.String() + "&from=NOT/a:name", "?mount=" + d.String() + "&from=Capital.com:80/x",
	} {
		f.t = t
		got := f.do(http.StatusAccepted, "POST", "/v2/to/upload/blobs/uploads/"+query, nil)
		f.do(http.StatusCreated, "PUT", with(got.Header.Get("Location"), "digest", d.String()), content)
	}
}

// The final slash is optional.
func TestUpload_withoutSlash(t *testing.T) {
	f := newFixture(t, nil)
	f.do(http.StatusAccepted, "POST", "/v2/a/blobs/uploads", nil)
	f.do(http.StatusAccepted, "POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", nil)
	f.do(http.StatusBadRequest, "POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", nil).code(t)
}
