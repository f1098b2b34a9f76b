package mirror_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
)

const signed = "  additionalImages:\n  - name: HOST/samples/signed:v1\n  - name: HOST/samples/docker:v1\n"

// signatureAnswers makes the upstream answer for the signature of samples/signed.
func (s *setup) signatureAnswers(status int, body string) {
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, ".sig") || !strings.Contains(r.URL.Path, "samples/signed/") {
			return false
		}
		if status == 0 {
			panic(http.ErrAbortHandler)
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

func TestRun_attachmentsThatBreakOff(t *testing.T) {
	s := newSetup(t, signed)
	s.signatureAnswers(0, "")
	report, err := s.mirror(t)
	if err != nil || len(report.Mirrored) != 2 || len(report.Failures) != 0 {
		t.Fatalf("%v, failures %+v", err, report.Failures)
	}
	if !slices.ContainsFunc(report.Warnings, func(w string) bool {
		return strings.Contains(w, "samples/signed:v1 is mirrored without its signatures")
	}) {
		t.Errorf("warnings %q", report.Warnings)
	}
}

func TestRun_attachmentsThatCannotBeRead(t *testing.T) {
	s := newSetup(t, signed)
	s.signatureAnswers(http.StatusInternalServerError, "")
	report, err := s.mirror(t)
	if exitCode(err) != 8 || err.Error() != "the signatures of 1 of 2 images cannot be read" && !strings.HasPrefix(err.Error(), "the signatures of 1 of 2 images cannot be read, see ") {
		t.Errorf("exit code %d, %v", exitCode(err), err)
	}
	if len(report.Mirrored) != 2 || report.Planned != 2 || len(report.Failures) != 1 {
		t.Fatalf("%d of %d are mirrored, failures %+v", len(report.Mirrored), report.Planned, report.Failures)
	}
	f := report.Failures[0]
	if !strings.HasSuffix(f.Image.Origin, "samples/signed:v1") || !strings.Contains(f.Error, "mirrored without its signatures") || !strings.Contains(f.Error, "500") || !strings.Contains(hint.Of(f.Cause), "--remove-signatures") {
		t.Errorf("the failure is %+v", f)
	}
	if want := []mirror.Result{{Label: "additional", Mirrored: 2, Planned: 2}}; !slices.Equal(report.Results(), want) {
		t.Errorf("the results are %v", report.Results())
	}
	s.holds(t, "samples/signed", "v1", s.digest(t, "samples/signed", "v1"))
}

// An attachment that exists and cannot be copied is missing at the destination.
func TestRun_attachmentsThatCannotBeCopied(t *testing.T) {
	s := newSetup(t, signed)
	d := s.digest(t, "samples/signed", "v1")
	s.dies(s.layer(t, "samples/signed", "sha256-"+d.Encoded()+".sig"))
	report, err := s.mirror(t)
	if exitCode(err) != 8 || len(report.Failures) != 1 {
		t.Fatalf("error %v, failures %+v", err, report.Failures)
	}
	if f := report.Failures[0]; !strings.Contains(f.Error, "its signature or other attachment sha256-"+d.Encoded()+".sig: ") || !strings.Contains(hint.Of(f.Cause), "--remove-signatures") {
		t.Errorf("the failure is %+v", f)
	}
	s.lacks(t, "samples/signed", "v1")
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}
