package transfer_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// childSides, when set, makes the test binary the process that copies and is killed.
const childSides = "TRANSFER_SIDES"

func TestMain(m *testing.M) {
	if text := os.Getenv(childSides); text != "" {
		var o transfer.Options
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			o.Progress = func(transfer.Progress) { fmt.Println() }
			_, err = transfer.Run(context.Background(), o)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(readOnly) != "" { // which has one user, and no server starts for another
		os.Exit(m.Run())
	}
	os.Exit(testAll(m))
}

func TestRun_thereAndBack(t *testing.T) {
	for one, source := range others(t) {
		for another, target := range others(t) {
			t.Run(one+" to "+another, func(t *testing.T) {
				from, to, back := source(t), target(t), source(t)
				blobs := fill(t, from)
				if r := run(t, from, to); r.Copied != int64(len(blobs))+1 || r.There != 0 || r.Rows == 0 || len(r.Tables) != len(transfer.Names()) {
					t.Errorf("the report is %+v", r)
				}
				equal(t, from, to)
				run(t, to, back)
				equal(t, from, back)
				for _, copied := range []place{to, back} { // whose new rows get new ids
					s := copied.open(t)
					push(t, s, "new", "v1")
					must(t, s.Close())
				}
			})
		}
	}
}

// While the source is open, which is what a daemon does, only the blobs are copied, and the target is
// refused. What comes meanwhile is in the next run.
func TestRun_whileTheSourceServes(t *testing.T) {
	for name, other := range others(t) {
		t.Run(name, func(t *testing.T) {
			from, to := other(t), inFiles(t)
			fill(t, from)
			s := from.open(t)
			r, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
			var serving *transfer.ServingError
			if !errors.As(err, &serving) || serving.ExitCode() != 2 || !strings.Contains(hint.Of(err), "stop the source") || r.Whole || r.Copied != 13 {
				t.Errorf("Run gives %+v, %v", r, err)
			}
			refused(t, to)
			push(t, s, "later", "v1")
			must(t, s.Close())
			if r := run(t, from, to); r.There != 13 || r.Copied != 4 {
				t.Errorf("the report is %+v", r)
			}
			equal(t, from, to)
		})
	}
}

// refused fails unless the target is refused as half a copy.
func refused(t *testing.T, to place) {
	t.Helper()
	s, err := to.tryOpen(t)
	if err == nil {
		must(t, s.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "is the target of a copy of") || !strings.Contains(hint.Of(err), "appliance store copy --from ") {
		t.Errorf("opening half a copy gives %v, hint %q", err, hint.Of(err))
	}
}

// A process that copies is killed again and again: the target is refused until one ends, and then
// it is equal.
func TestRun_killedAtAnyMoment(t *testing.T) {
	for name, other := range others(t) {
		t.Run(name, func(t *testing.T) {
			from, to := inFiles(t), other(t)
			fill(t, from)
			kills := 0
			for patience := 1; !copiedOrKilled(t, from, to, patience); patience += 1 + rand.IntN(4) {
				kills++
				if _, err := os.Stat(to.Database); err == nil || !filepath.IsAbs(to.Database) {
					notWhole(t, to)
				}
			}
			if kills < 3 {
				t.Errorf("it was killed %d times only", kills)
			}
			equal(t, from, to)
		})
	}
}

// notWhole fails if a target opens that has no mark of an end.
func notWhole(t *testing.T, to place) {
	t.Helper()
	s, err := to.tryOpen(t)
	if err != nil {
		return
	}
	defer func() { must(t, s.Close()) }()
	n, err := s.Stats(t.Context())
	must(t, err)
	if n.Blobs > 0 && n.Tags == 0 {
		t.Errorf("half a copy is served: %+v", n)
	}
}

// copiedOrKilled runs the copying process, kills it a random moment after some lines of progress, and
// reports whether it has ended before.
func copiedOrKilled(t *testing.T, from, to place, patience int) bool {
	t.Helper()
	sides, err := json.Marshal(map[string]any{"From": from.Side, "To": to.Side})
	must(t, err)
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childSides+"="+string(sides))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	for lines, one := 0, make([]byte, 1); ; {
		if _, err := out.Read(one); err != nil {
			break
		}
		if lines++; lines == patience {
			// Not a wait for something to happen: any moment is as good as another.
			time.AfterFunc(time.Duration(rand.Int64N(int64(5*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		}
	}
	err = cmd.Wait()
	if status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return false
	}
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return true
}

// stopped is a target of which a copy has begun, and nothing is there.
func stopped(t *testing.T, from, to place) {
	t.Helper()
	full := to
	full.MinFree = 1 << 60
	if _, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: full.Side}); !errors.As(err, new(*diskspace.FullError)) {
		t.Fatal(err)
	}
	refused(t, to)
}

// leave leaves the beginning of a blob in the target.
func leave(t *testing.T, to place, d digest.Digest, body []byte) {
	t.Helper()
	dir, err := blobfile.Open(to.Storage)
	must(t, err)
	u, err := dir.NewPartial(d, time.Now())
	must(t, err)
	_, err = u.Write(body)
	must(t, errors.Join(err, u.Save(time.Time{}), u.Close(), dir.Close()))
}

// A large blob goes on where the copy was stopped: what is there is not read from the source again.
func TestRun_goesOnWithinABlob(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	large := fill(t, from)[2].Digest
	whole, err := os.ReadFile(from.blob(large))
	must(t, err)
	stopped(t, from, to)
	leave(t, to, large, whole[:2<<20])
	must(t, os.WriteFile(from.blob(large), append(make([]byte, 2<<20), whole[2<<20:]...), 0o600))
	run(t, from, to)
	must(t, os.WriteFile(from.blob(large), whole, 0o600))
	equal(t, from, to)
}

// What was left may be other bytes.
func TestRun_doesNotTrustWhatIsThere(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	blobs := fill(t, from)
	stopped(t, from, to)
	leave(t, to, blobs[2].Digest, make([]byte, 2<<20))
	placed := to.blob(blobs[6].Digest)
	must(t, errors.Join(os.MkdirAll(filepath.Dir(placed), 0o700), os.WriteFile(placed, make([]byte, layers[2]), 0o600)))
	run(t, from, to)
	equal(t, from, to)
}

// Tables that are not equal after the copy are an error, and the target stays half a copy.
func TestRun_comparesTheTables(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	fill(t, from)
	must(t, to.open(t).Close())
	must(t, execIn(t, to, `CREATE TRIGGER spoil AFTER INSERT ON audit BEGIN UPDATE audit SET details = 'other'; END`))
	_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
	if err == nil || !strings.Contains(err.Error(), "table audit is not equal after it was copied") {
		t.Errorf("Run gives %v", err)
	}
	refused(t, to)
	must(t, execIn(t, to, `DROP TRIGGER spoil`))
	run(t, from, to)
	equal(t, from, to)
}

func TestRun_damagedBlob(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"other bytes": func(path string) error { return os.WriteFile(path, content("x", layers[2]), 0o600) },
		"cut off":     func(path string) error { return os.Truncate(path, 10) },
		"missing":     os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			for kind, other := range others(t) {
				t.Run(kind, func(t *testing.T) {
					from, to := other(t), inFiles(t)
					blobs := fill(t, from)
					bad := blobs[2].Digest
					whole, err := os.ReadFile(from.blob(bad))
					must(t, err)
					must(t, damage(from.blob(bad)))
					_, err = transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
					var damaged *transfer.DamagedError
					if !errors.As(err, &damaged) || damaged.Total != 1 || damaged.Blobs[0].Digest != bad || !strings.Contains(hint.Of(err), "appliance scrub --config "+from.Config) {
						t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
					}
					refused(t, to)
					must(t, os.WriteFile(from.blob(bad), whole, 0o600))
					if r := run(t, from, to); r.Copied != 1 {
						t.Errorf("the report is %+v", r)
					}
					equal(t, from, to)
				})
			}
		})
	}
}

// The bytes of a small blob whose file a power cut took are in the journal.
func TestRun_ofTheJournal(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	blobs := fill(t, from)
	small := blobs[0]
	body, err := os.ReadFile(from.blob(small.Digest))
	must(t, err)
	_, err = from.direct(t).Exec(`INSERT INTO blob_journal (id, digest, body) VALUES (7, ?, ?)`, small.Digest, body)
	must(t, err)
	must(t, os.Truncate(from.blob(small.Digest), 0))
	run(t, from, to)
	equal(t, from, to)
}

func TestRun_refuses(t *testing.T) {
	from := inFiles(t)
	fill(t, from)
	type refusal struct {
		to         func(t *testing.T) place
		want, next string
	}
	for name, tc := range map[string]refusal{
		"the same store": {func(t *testing.T) place { return from }, "name the same database", "name another one"},
		"content of its own": {func(t *testing.T) place {
			to := inFiles(t)
			fill(t, to)
			return to
		}, "has content of its own", "name an empty database"},
		"blobs without rows": {func(t *testing.T) place {
			to, other := inFiles(t), inFiles(t)
			fill(t, other)
			to.Storage = other.Storage
			return to
		}, "does not name them", "empty place"},
		"a copy of another": {func(t *testing.T) place {
			to, other := inFiles(t), inFiles(t)
			fill(t, other)
			run(t, other, to)
			return to
		}, "is a copy of", "name an empty database"},
		"a copy that has changed": {func(t *testing.T) place {
			to := inFiles(t)
			run(t, from, to)
			s := to.open(t)
			push(t, s, "mine", "v1")
			must(t, s.Close())
			return to
		}, "has changed since it was copied", "name an empty database"},
		"a target in use": {func(t *testing.T) place {
			to := inFiles(t)
			s := to.open(t)
			t.Cleanup(func() { must(t, s.Close()) })
			return to
		}, "in use by another process", "stop it first"},
		"a storage in that of the source": {func(t *testing.T) place {
			to := inFiles(t)
			to.Storage = filepath.Join(from.Storage, "sha256", "new")
			return to
		}, "lie in each other", "a place beside"},
		"a storage around that of the source": {func(t *testing.T) place {
			to := inFiles(t)
			to.Storage = filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink(filepath.Dir(from.Storage), to.Storage))
			return to
		}, "lie in each other", "a place beside"},
		"a directory that is missing": {func(t *testing.T) place {
			to := inFiles(t)
			to.Database = filepath.Join(t.TempDir(), "none", "appliance.db")
			return to
		}, "does not exist", "mount it"},
	} {
		t.Run(name, func(t *testing.T) {
			to := tc.to(t)
			_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), tc.next) {
				t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
			}
		})
	}
}

func TestRun_refusesASource(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil      func(t *testing.T, from place)
		want, next string
	}{
		"that does not exist": {func(t *testing.T, from place) { must(t, os.Remove(from.Database)) }, "there is no database", "check `database:`"},
		"of another program":  {func(t *testing.T, from place) { must(t, os.WriteFile(from.Database, []byte("text"), 0o600)) }, "is not a database of the appliance", "check `database:`"},
		"of an older version": {func(t *testing.T, from place) { must(t, execIn(t, from, `PRAGMA user_version = 3`)) }, "has schema version 3", "start the registry"},
		"of a newer version":  {func(t *testing.T, from place) { must(t, execIn(t, from, `PRAGMA user_version = 300`)) }, "has schema version 300", "newer appliance"},
		"without its blobs":   {func(t *testing.T, from place) { must(t, os.RemoveAll(from.Storage)) }, "the directory of the blobs", "mount"},
		"that is half a copy": {func(t *testing.T, from place) {
			must(t, execIn(t, from, `INSERT INTO meta (name, value) VALUES ('store copy', '{"config":"c"}')`))
		}, "has not ended", "appliance store copy --from c"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := inFiles(t), inFiles(t)
			fill(t, from)
			tc.spoil(t, from)
			_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), tc.next) {
				t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
			}
			if _, err := os.Stat(to.Database); err == nil {
				t.Error("a target was made")
			}
		})
	}
}

// A full disk is an error before anything is copied.
func TestRun_fullDisk(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	fill(t, from)
	to.MinFree = 1 << 60
	for _, dry := range []bool{true, false} {
		_, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side, DryRun: dry})
		if err == nil || !strings.Contains(err.Error(), "no space left for "+to.Storage) || hint.Of(err) == "" {
			t.Errorf("Run gives %v, hint %q", err, hint.Of(err))
		}
	}
	missing := to
	missing.Storage = filepath.Join(to.Storage, "not", "made")
	if _, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: missing.Side, DryRun: true}); err == nil || !strings.Contains(err.Error(), "no space left for "+to.Storage) {
		t.Errorf("a dry run to a directory that is not made gives %v", err)
	}
	refused(t, to)
	to.MinFree = 0
	run(t, from, to)
	equal(t, from, to)
}

// A copy that has ended is brought up to date as long as nothing was written to it.
func TestRun_again(t *testing.T) {
	for name, other := range others(t) {
		t.Run(name, func(t *testing.T) {
			from, to := inFiles(t), other(t)
			fill(t, from)
			run(t, from, to)
			s := from.open(t)
			push(t, s, "later", "v1")
			must(t, s.Close())
			look(t, to)
			if r := run(t, from, to); r.There != 13 || r.Copied != 4 {
				t.Errorf("the report is %+v", r)
			}
			equal(t, from, to)
		})
	}
}

// look leaves in a store what the commands verify and gc --dry-run do, which change no content.
func look(t *testing.T, p place) {
	t.Helper()
	s := p.open(t) // which claims a bucket
	for _, name := range []string{"verify.last", "gc.last"} {
		must(t, s.SetNote(t.Context(), name, "{}"))
	}
	must(t, s.Close())
	_, err := p.direct(t).Exec(`INSERT INTO audit (kind, at, event, "user", remote, outcome, details) VALUES ('administration', 9, 'verify began', 'local', '@', 'done', '{}')`)
	must(t, err)
}

func TestRun_dryRun(t *testing.T) {
	from, to := inFiles(t), inFiles(t)
	fill(t, from)
	r, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side, DryRun: true})
	must(t, err)
	if !r.DryRun || r.Whole || r.Blobs != 13 || r.BlobBytes == 0 || r.Rows == 0 || r.GuessSeconds == 0 || r.There != 0 {
		t.Errorf("the report is %+v", r)
	}
	if _, err := os.Stat(to.Database); err == nil {
		t.Error("a dry run has made a database")
	}
	fill(t, to)
	if _, err := transfer.Run(t.Context(), transfer.Options{From: from.Side, To: to.Side, DryRun: true}); err == nil || !strings.Contains(err.Error(), "content of its own") {
		t.Errorf("a dry run to a target with content gives %v", err)
	}
}

// A table that is neither copied nor left out on purpose would be lost.
func TestTables_areThoseOfTheSchema(t *testing.T) {
	for name, other := range others(t) {
		t.Run(name, func(t *testing.T) {
			p := other(t)
			must(t, p.open(t).Close())
			text := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`
			want := append(transfer.Names(), "blob_journal")
			if !filepath.IsAbs(p.Database) {
				text = `SELECT tablename FROM pg_tables WHERE schemaname = current_schema()`
				want = append(transfer.Names(), slices.Collect(maps.Keys(transfer.Left()))...)
			}
			got, err := database.Column[string](t.Context(), p.direct(t), text)
			must(t, err)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the schema has the tables\n%v\nand there are lines for\n%v\nin tables.go", got, want)
			}
		})
	}
}

func execIn(t *testing.T, p place, text string) error {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.Database)
	must(t, err)
	_, err = db.Exec(text)
	return errors.Join(err, db.Close())
}
