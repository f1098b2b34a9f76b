package updates

import (
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/signature"
)

// SignaturesPath is below which the signatures of releases are, as at the vendor's mirror: a cluster
// that lists it in spec.signatureStores asks for sha256=DIGEST/signature-1 and so on.
const SignaturesPath = "/signatures/openshift/release/"

// maxSignature is the size of the largest signature that is served; a cluster reads no larger one.
const maxSignature = 50 << 10

// signaturePath is the grammar below SignaturesPath and that of the service. The reference joins what it
// is asked for into a path of files.
var signaturePath = regexp.MustCompile(`^sha(?:256)?=([0-9a-f]{64})/signature-([1-9][0-9]{0,5})$`)

// signed adds the signatures in the graph data, of schema 1.2, of the releases that are here. They
// are verified by the vendor's keys; those that runs have recorded were verified by the run.
func (s *state) signed(log *slog.Logger) {
	keys, err := signature.VendorKeys()
	if err != nil {
		log.Error("the vendor's keys cannot be read; signatures in graph data are not served", "error", err)
		return
	}
	held := map[string]digest.Digest{}
	for _, r := range s.releases {
		held[r.Digest.Encoded()] = r.Digest
	}
	var names []string
	for name := range s.data.files {
		if strings.HasPrefix(name, "signatures/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		parts := strings.Split(name, "/")
		d, ok := held[parts[2]]
		if !ok || len(s.signatures[d.Encoded()]) >= maxSignatures {
			continue
		}
		if _, err := keys.Verify(s.data.files[name], d); err == nil {
			s.sign(d, s.data.files[name])
		}
	}
}

// maxSignatures is how many signatures of a release a cluster asks for at most.
const maxSignatures = 9

// signature serves a signature of a release. To a cluster, any answer but 404 for one that is not
// there is a fault of the store.
func (s *Service) signature(w http.ResponseWriter, name string) {
	m := signaturePath.FindStringSubmatch(name)
	if m == nil {
		refuse(w, http.StatusBadRequest, "invalid_params", "invalid client parameters: "+strconv.Quote(name)+" is not sha256=HEX/signature-N")
		return
	}
	all := s.current.Load().signatures[m[1]]
	n, err := strconv.Atoi(m[2])
	if err != nil || n > len(all) {
		refuse(w, http.StatusNotFound, "does_not_exist", "does not exist: signature "+name)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(all[n-1])))
	_, _ = w.Write(all[n-1]) // a client that went away needs no answer
}
