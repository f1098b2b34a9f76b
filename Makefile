# make help lists the targets. Everything is built without cgo, as it is shipped.
export CGO_ENABLED = 0

VERSION := $(shell git describe --tags --always --abbrev=12 --dirty 2>/dev/null || echo dev)
BUILT := $(shell git log -1 --format=%ct 2>/dev/null)

# The end-to-end tests are behind a build tag; with it, the tools below see them too.
E2E_TAG := e2e

# What go vet knows of a library counts for one list of tags; with the same list everywhere each is looked at once.
VET_TAGS := $(E2E_TAG),distcheck

# what make e2e runs: the tests that only the tag brings, and those that kill more often with it
E2E_PACKAGES := ./cmd/appliance ./installer/remote
E2E_TESTS = $(shell grep -rl '^//go:build $(E2E_TAG)$$' $(E2E_PACKAGES) | xargs grep -ohE '^func Test[A-Za-z0-9_]+' | cut -c 6- | paste -sd '|')

# testdata is a package, but ./... passes over it.
PACKAGES := ./... ./testdata

# a module of its own, which ./... passes over too
BENCH_MODULE := cmd/bench

# a module of its own: what makes packages
DIST_MODULE := cmd/dist

# a module of its own, with oc-mirror's filter library and opm; it takes minutes to build
OLMCHECK_MODULE := testdata/olmcheck

# every shell script of ours, by its first line
SCRIPTS = $(shell grep -rlE '^#!.*[/ ](ba)?sh$$' .ci testdata cmd/dist)

# All of staticcheck, also what is off by default, such as a package comment for every package (ST1000), but for:
#   ST1003       names: the flags and paths that we inherit are called what they are called
#   ST1020-1022  a comment's first word: comments here say why, and not always in that form
CHECKS := all,-ST1003,-ST1020,-ST1021,-ST1022

.PHONY: help build test postgres race powercut cross olmcheck s3 minio transfer several conformance oc openshiftinstall ocmirror ocmirrorv1 cincinnati console openapi e2e bench dist distcheck lint run
.DEFAULT_GOAL := help

help: ## print this
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '  %-12s %s\n' "$$target" "$$text"; done

# -buildvcs=false: the version is in -X, and stamping fails where git distrusts the checkout's owner.
# The program that renders Helm charts is inside, compressed: its libraries stay out of the daemon's memory.
build: ## build bin/appliance
	go build -trimpath -buildvcs=false -ldflags "-s -w" -o bin/appliance-helm ./cmd/appliance-helm
	gzip -9nc bin/appliance-helm > cmd/appliance/appliance-helm.gz
	go build -tags helm -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION) -X main.built=$(BUILT)" -o bin/appliance ./cmd/appliance

# -vet=off: what go test would vet, go vet has looked at already.
test: ## vet, and all tests that need neither root nor other programs
	go vet -tags $(VET_TAGS) $(PACKAGES)
	go -C $(BENCH_MODULE) vet -tags $(VET_TAGS) ./...
	go -C $(DIST_MODULE) vet -tags $(VET_TAGS) ./...
	go test -vet=off -timeout 40m ./...
	go -C $(BENCH_MODULE) test -vet=off ./...
	go -C $(DIST_MODULE) test -vet=off ./...

# Needs a server in /usr/lib/postgresql, of which each test process starts one of its own (Debian: postgresql-15, whose own
# server need not run). The second run has each transaction run twice, as after a conflict with another process. The last
# upgrades an installed service: it needs root, and what make e2e needs.
postgres: ## the tests of the store with its database in PostgreSQL, and of an upgrade with it
	go test -tags postgres -timeout 10m ./registry/store/postgres/... ./registry/store/migrations ./registry/sealed
	go test -tags postgres -timeout 10m -run TestPostgres_ ./registry
	APPLIANCE_TEST_DATABASE=postgres go test -timeout 20m ./registry/store
	APPLIANCE_TEST_DATABASE=postgres-twice go test -timeout 30m ./registry/store
	testdata/e2e-needs.sh
	go -C testdata/s3server build -trimpath -buildvcs=false -o $(CURDIR)/bin/s3server .
	go vet -tags "e2e postgres" ./cmd/appliance
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server go test -vet=off -count=1 -tags "e2e postgres" -timeout 10m -run '^TestUpgradeOnServers$$' ./cmd/appliance

transfer: ## the tests of copies of stores, from and to all engines and storages
	go -C testdata/s3server build -trimpath -buildvcs=false -o $(CURDIR)/bin/s3server .
	go vet -tags "s3 postgres" ./registry/store/transfer
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server go test -count=1 -tags "s3 postgres" -timeout 20m ./registry/store/transfer

# Tests of the daemon that damage, move or look at files, or that wait for a backup.
IN_FILES := TestRun_(backup_draining|collect|controlSocket|health|metrics|scrub|minFree|damage|detachedChecks|lastBackup)$$|TestUpdates_followsWaysBack|TestPair_firstWasOffForLong|TestConsole_storage$$|TestPull_tokenEnds|TestControl_listsAreLists|TestNear_largeBlobIsWrittenIntoItsFile|TestOffline_doesNotMigrate|TestDaemon_ofAnotherDatabase|TestScrub_logins

# KILLS is how often one of three daemons is killed.
KILLS = 200

several: ## the tests of several daemons of one store: random histories, kills, a balancer (KILLS=10: fewer kills)
	go -C testdata/s3server build -trimpath -buildvcs=false -o $(CURDIR)/bin/s3server .
	go vet -tags s3 ./registry/store
	go vet -tags several ./cmd/appliance
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server APPLIANCE_TEST_DATABASE=postgres APPLIANCE_TEST_STORAGE=s3 go test -count=1 -tags s3 -timeout 40m -skip TestSeveral_ ./registry/store ./registry/oci ./registry/pull ./registry/follow
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server APPLIANCE_TEST_DATABASE=postgres APPLIANCE_TEST_STORAGE=s3 go test -count=1 -timeout 40m -skip '$(IN_FILES)' ./registry
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server APPLIANCE_TEST_DATABASE=postgres go test -count=1 -tags s3 -timeout 2h -run TestSeveral_ ./registry/store -kills $(KILLS)
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server go test -count=1 -tags several -timeout 20m -run 'Test(Several|Scale)_' ./cmd/appliance

# CUTS is how often the power of each side of a pair is cut.
CUTS = 200

powercut: ## the tests of the power cut of each side of a pair, more often (CUTS=1000)
	go test -count=1 -timeout 2h -run powerCut ./registry/follow -cuts $(CUTS)
	go test -count=1 -timeout 2h -run powerCut ./cmd/appliance -cuts $(CUTS)

conformance: ## the suite of the OCI distribution specification, against two daemons of one store
	go -C testdata/s3server build -trimpath -buildvcs=false -o $(CURDIR)/bin/s3server .
	go -C testdata/conformance build -trimpath -buildvcs=false -o $(CURDIR)/bin/conformance github.com/opencontainers/distribution-spec/conformance
	go vet -tags several ./cmd/appliance
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server APPLIANCE_CONFORMANCE=$(CURDIR)/bin/conformance go test -count=1 -v -tags several -timeout 15m -run TestConformance_ ./cmd/appliance

# The packages whose goroutines share most. The race detector needs cgo, and so a C compiler. SQLite, whose C was made
# into Go, takes the detector minutes, and has no goroutines. -vet=off: as for make test, whose vet looks at these too.
RACE = CGO_ENABLED=1 go test -race -vet=off -timeout 10m -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false

race: ## the tests of pull-through with the race detector
	$(RACE) ./registry/pull ./registry/oci
	$(RACE) -run TestPull_churn ./registry

# Of the four that are handed out, those whose system calls have other types than amd64's.
# The architecture that differs most from that of the tests: another order of bytes. make dist compiles for all.
# Without optimizations, which take a third of the time and tell no more.
cross: ## compile for s390x
	GOARCH=s390x go build -trimpath -gcflags='all=-N -l' ./cmd/appliance ./cmd/appliance-helm

# The tag leaves out gpgme, which the library of CRI-O would link.
olmcheck: ## compare with the libraries of oc-mirror, opm and CRI-O, and serve a mirrored catalog
	go -C $(OLMCHECK_MODULE) vet -tags containers_image_openpgp ./...
	go -C $(OLMCHECK_MODULE) test -tags containers_image_openpgp -timeout 15m ./...

s3: ## run the tests of blobs in S3, with a real server; it takes minutes to build
	go -C testdata/s3server build -trimpath -buildvcs=false -o $(CURDIR)/bin/s3server .
	go vet -tags s3 ./registry/store ./registry/store/blobs3/... ./registry/oci ./cmd/appliance
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server go test -count=1 -tags s3 -timeout 10m ./registry/store/blobs3/...
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server APPLIANCE_TEST_STORAGE=s3 go test -count=1 -tags s3 -timeout 40m ./registry/store
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server APPLIANCE_TEST_DATABASE=postgres go test -count=1 -tags s3 -run "Test(Daemons|Fenced)_" ./registry/store
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server go test -count=1 -tags s3 -run TestRedirect ./registry/oci
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/s3server go test -count=1 -tags s3 -timeout 20m -run '_S3|TestRedirect' ./cmd/appliance

# Tests that look at the disk of the other server, or want what MinIO does otherwise: object lock is chosen when its bucket is
# made, and uploads that are left are listed by their exact names only; it removes those itself after a day.
NOT_ON_MINIO := TestStorage_lostPart|TestStorage_bucketGone|TestParts_requests|TestOpen_defaultRetention|TestConformance/uploads_that_are_left

minio: ## the tests of blobs in S3 that look at no disk, with MinIO; it takes ten minutes to build
	go -C testdata/minioserver build -trimpath -buildvcs=false -o $(CURDIR)/bin/minioserver .
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/minioserver go test -count=1 -tags s3 -timeout 20m -skip '$(NOT_ON_MINIO)' ./registry/store/blobs3/...
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/minioserver APPLIANCE_TEST_DATABASE=postgres go test -count=1 -tags s3 -run TestDaemons_ ./registry/store
	APPLIANCE_S3_SERVER=$(CURDIR)/bin/minioserver go test -count=1 -tags s3 -run 'TestRedirect|TestDown_S3' ./registry/oci ./cmd/appliance

oc: ## drive an appliance with oc, which must be on PATH
	go -C $(OLMCHECK_MODULE) vet -tags oc ./...
	go -C $(OLMCHECK_MODULE) test -count=1 -tags oc -run TestOC$$ ./...
	go test -count=1 -tags oc -run TestOC_ ./cmd/appliance

openshiftinstall: ## have openshift-install, which must be on PATH as oc must, read what cluster-config writes
	go vet -tags openshiftinstall ./cmd/appliance
	go test -count=1 -tags openshiftinstall -run TestOpenShiftInstall_ ./cmd/appliance

ocmirror: ## carry archives to and from oc-mirror, which must be on PATH
	go -C $(OLMCHECK_MODULE) vet -tags ocmirror ./...
	go -C $(OLMCHECK_MODULE) test -count=1 -tags ocmirror -run 'TestOCMirror($$|_)' ./...

ocmirrorv1: ## compare with oc-mirror v1, which must be on PATH: release-4.17 or before
	go -C $(OLMCHECK_MODULE) vet -tags ocmirror ./...
	go -C $(OLMCHECK_MODULE) test -count=1 -tags ocmirror -run TestOCMirrorV1 ./...

cincinnati: ## compare update graphs with those of openshift/cincinnati, a checkout of which is at CINCINNATI
	go test -count=1 -tags cincinnati -run TestReference ./mirror/graphdata

# What it makes is committed, so that go build needs no npm.
console: ## make registry/console/static of PatternFly, htmx and registry/console/web, with npm
	npm --prefix registry/console/web ci
	npm --prefix registry/console/web run build

openapi: ## make registry/admin/openapi/comments.json of the comments of the control API's types
	go test -count=1 -run 'TestComments$$' ./registry/admin/openapi -args -update

# -vet=off: make lint and make test vet these packages with the tag.
e2e: ## the tests that need root, podman, skopeo and a real systemd
	testdata/e2e-needs.sh
	npm --prefix registry/console/browser ci
	npm --prefix testdata/openapi ci
	go test -vet=off -count=1 -v -tags $(E2E_TAG) -timeout 45m -run '^(TestKilled.*|$(E2E_TESTS))$$' $(E2E_PACKAGES)

bench: ## measure the figures that the registry is held to, into bench.json (BENCH="--rows get": a part)
	go -C $(BENCH_MODULE) build -trimpath -buildvcs=false -o $(CURDIR)/bin/bench .
	bin/bench $(BENCH)

dist: ## make archives, RPM, DEB, SBOM and checksums for all architectures, into dist/ (DIST="-arch amd64": for one)
	SOURCE_DATE_EPOCH=$(BUILT) go -C $(DIST_MODULE) run . -root $(CURDIR) -dir $(CURDIR)/dist -version $(VERSION) $(DIST)

distcheck: ## make packages for this machine and try them, as root, with lintian, rpm, man, bash, zsh, fish and a real systemd
	go -C $(DIST_MODULE) test -count=1 -v -tags distcheck -timeout 15m -run TestCheck ./...

lint: ## gofmt, vet, staticcheck, shellcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, gofmt -w does it:" >&2; echo "$$unformatted" >&2; exit 1; fi
	go vet -tags $(VET_TAGS) $(PACKAGES)
	go -C $(BENCH_MODULE) vet -tags $(VET_TAGS) ./...
	go -C $(DIST_MODULE) vet -tags $(VET_TAGS) ./...
	go build -o bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck -checks $(CHECKS) -tags $(E2E_TAG) $(PACKAGES)
	cd $(BENCH_MODULE) && $(CURDIR)/bin/staticcheck -checks $(CHECKS) ./...
	cd $(DIST_MODULE) && $(CURDIR)/bin/staticcheck -checks $(CHECKS) -tags distcheck ./...
	@command -v shellcheck >/dev/null || { echo "shellcheck is missing: apt-get install shellcheck" >&2; exit 1; }
	shellcheck $(SCRIPTS)

run: build ## do the main job on sample content, stay up until Ctrl-C (ONCE=1: exit)
	go build -trimpath -buildvcs=false -o bin/sample-upstream ./cmd/sample-upstream
	ONCE=$(ONCE) testdata/run.sh
