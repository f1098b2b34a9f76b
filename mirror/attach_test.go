package mirror_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
)

const signed = "  additionalImages:\n  - name: HOST/samples/signed:v1\n  - name: HOST/samples/docker:v1\n"

// signatureAnswers makes the upstream answer for the signature of samples/signed.
func (s *setup) signatureAnswers(status int, body string) {
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, ".sig") || !strings.Contains(r.URL.Path, "samples/signed/") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	})
}

// Spec: signatures 4.
func TestRun_attachments(t *testing.T) {
	s := newSetup(t, signed)
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	d := s.digest(t, "samples/signed", "v1")
	tag := "sha256-" + d.Encoded() + ".sig"
	s.holds(t, "samples/signed", tag, s.digest(t, "samples/signed", tag))
	list, err := s.store.Manifests.Referrers(t.Context(), "samples/signed", d, "")
	if err != nil || len(list) != 1 {
		t.Fatalf("referrers %v, %v", list, err)
	}
	m, err := s.store.Manifests.Get(t.Context(), "samples/signed", list[0])
	if err != nil {
		t.Fatal(err)
	}
	s.whole(t, "samples/signed", m)
	if want := []mirror.Result{{Label: "additional", Mirrored: 2, Planned: 2}}; !slices.Equal(report.Results(), want) {
		t.Errorf("the results are %v, want those of the images alone", report.Results())
	}
}

// Spec: signatures 3.
func TestRun_attachmentsThatAreAbsent(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
	}{
		{http.StatusNotFound, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`},
		{http.StatusNotFound, `{"errors":[{"code":"NAME_UNKNOWN"}]}`},
		{http.StatusNotFound, ``},
		{http.StatusUnauthorized, `{"errors":[{"code":"UNAUTHORIZED"}]}`},
		{http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`},
	} {
		s := newSetup(t, signed)
		s.signatureAnswers(tc.status, tc.body)
		if report, err := s.mirror(t); err != nil || len(report.Mirrored) != 2 {
			t.Errorf("%d %s: %v", tc.status, tc.body, err)
		}
	}
}

func TestRun_attachmentsThatCannotBeRead(t *testing.T) {
	s := newSetup(t, signed)
	s.signatureAnswers(http.StatusInternalServerError, "")
	report, err := s.mirror(t)
	if err != nil || len(report.Mirrored) != 2 || !slices.ContainsFunc(report.Warnings, func(w string) bool {
		return strings.Contains(w, "samples/signed:v1 is mirrored without its signatures") && strings.Contains(w, "500")
	}) {
		t.Errorf("error %v, warnings %q", err, report.Warnings)
	}
}

// An attachment that exists and cannot be copied is missing at the destination.
func TestRun_attachmentsThatCannotBeCopied(t *testing.T) {
	s := newSetup(t, signed)
	d := s.digest(t, "samples/signed", "v1")
	s.dies(s.layer(t, "samples/signed", "sha256-"+d.Encoded()+".sig"))
	report, err := s.mirror(t)
	if exitCode(err) != 8 || len(report.Failures) != 1 {
		t.Errorf("error %v, failures %+v", err, report.Failures)
	}
	s.lacks(t, "samples/signed", "v1")
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}
