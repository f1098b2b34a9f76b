#!/usr/bin/env bash
# make run: the main job on sample content. Starts a sample upstream and an
# appliance under ./run, mirrors testdata/imageset/sample.yaml from the one into
# the other, pulls an image back through TLS and checks its digest. Stays up
# until Ctrl-C; with ONCE=1 it exits, non-zero if anything was wrong.
# A second run goes on with what the first left in ./run.

# shellcheck disable=SC2317 # functions that a trap, do_ or wait_for calls
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 077

upstream=127.0.0.1:5055 # testdata/imageset/sample.yaml names it
registry=localhost:8443
run=$PWD/run
ca=$run/quay-rootCA/rootCA.pem
password_file=$run/init-password
pids=()

stop() { # end what was started here, last first, and wait until it has ended
	local i
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill "${pids[i]}" 2>/dev/null || true
		wait "${pids[i]}" 2>/dev/null || true
	done
}
trap stop EXIT
trap 'exit 130' INT TERM

say() { echo "==> $*"; }
die() { # MESSAGE [LOG]
	echo "make run: $1" >&2
	[ -z "${2-}" ] || { echo "the end of $2:" >&2 && tail -n 20 "$2" >&2; }
	exit 1
}

serve() { # LOG COMMAND...: start it in the background; its process id is in $served
	local log=$1
	shift
	"$@" >"$log" 2>&1 &
	served=$!
	pids+=("$served")
}

# do_ runs a command so that a signal ends it and this script at once.
do_() {
	"$@" <&0 &
	local pid=$!
	pids+=("$pid")
	local rc=0
	wait "$pid" || rc=$?
	unset 'pids[-1]' # its number may be another's from now on
	return "$rc"
}

wait_for() { # PID LOG WHAT COMMAND...: until COMMAND succeeds
	local pid=$1 log=$2 what=$3 i
	shift 3
	for ((i = 0; i < 300; i++)); do
		"$@" >/dev/null 2>&1 && return
		kill -0 "$pid" 2>/dev/null || die "$what ended by itself" "$log"
		sleep 0.1
	done
	"$@" || true
	die "$what is not ready after 30 s" "$log"
}

# check [IMAGE DIGEST]: through TLS, trusting only the appliance's own CA
check() {
	bin/sample-upstream check --ca "$ca" --registry "$registry" --user init --password-stdin "$@" <"$password_file"
}

# check_copy IMAGE SOURCE-IMAGE: what the appliance serves is what the upstream has
check_copy() {
	do_ check "$1" "$(bin/sample-upstream digest --host "$upstream" "$2")" || die "$1 is not what it should be"
}

# What install does, without what needs a systemd: configuration, CA and
# certificate, and a user.
prepare_appliance() {
	bin/appliance prepare --quayRoot "$run" --quayHostname "$registry" || return
	local init=(add init --role admin)
	if bin/appliance user list --quayRoot "$run" | grep -q '^init '; then
		init=(passwd init)
	fi
	bin/appliance user "${init[@]}" --quayRoot "$run" --password-stdin <"$password_file"
}

began=$SECONDS
mkdir -p "$run/log"

say "starting the sample upstream on http://$upstream"
rm -f "$run/upstream.ready"
serve "$run/log/upstream.log" bin/sample-upstream --listen "$upstream" --ready-file "$run/upstream.ready" \
	--key-file "$run/signature-key.asc"
wait_for "$served" "$run/log/upstream.log" "the sample upstream" test -e "$run/upstream.ready"

[ -s "$password_file" ] || head -c 18 /dev/urandom | base64 | tr +/ -_ >"$password_file"
printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$registry" \
	"$(printf 'init:%s' "$(<"$password_file")" | base64 -w 0)" >"$run/auth.json"

say "starting the appliance on https://$registry, in $run"
do_ prepare_appliance || die "the appliance could not be prepared"
mkdir -p "$run/certs" && cp "$ca" "$run/certs/ca.crt" # the form of podman's --cert-dir
serve "$run/log/appliance.log" bin/appliance serve --quayRoot "$run"
wait_for "$served" "$run/log/appliance.log" "the appliance" check

say "mirroring testdata/imageset/sample.yaml"
OCP_SIGNATURE_URL=http://$upstream/signatures/openshift/release/ OCP_SIGNATURE_VERIFICATION_PK=$run/signature-key.asc \
	UPDATE_URL_OVERRIDE=http://$upstream/api/upgrades_info/v1/graph do_ bin/appliance mirror \
	-c testdata/imageset/sample.yaml "docker://$registry" --workspace "file://$run/workspace" \
	--src-tls-verify=false --dest-cert-dir "$run/certs" --authfile "$run/auth.json" || die "the mirror failed, exit code $?"

say "pulling back through TLS"
check_copy openshift/release-images:4.18.2-x86_64 openshift-release-dev/ocp-release:4.18.2-x86_64
check_copy samples/oci-multi:v1 samples/oci-multi:v1

cat <<END
==> done in $((SECONDS - began)) s: the release 4.18.1 to 4.18.2 and four images are in https://$registry
    cluster resources: run/workspace/working-dir/cluster-resources
    logs:              run/log
END
[ -z "${ONCE-}" ] || exit 0

cat <<END

Try next:
  curl --cacert run/quay-rootCA/rootCA.pem -u "init:\$(cat run/init-password)" https://$registry/v2/_catalog
  skopeo inspect --cert-dir run/certs --authfile run/auth.json docker://$registry/samples/oci-multi:v1
  bin/appliance gc --dry-run --quayRoot run
END
say "staying up, Ctrl-C ends it"
trap 'exit 0' INT TERM
wait -n -p ended "${pids[@]}" || true
name=appliance
[ "$ended" != "${pids[0]}" ] || name=upstream
die "the $name ended by itself" "$run/log/$name.log"
