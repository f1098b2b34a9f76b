#!/bin/sh
# From a mirrored release of OpenShift {{.Version}} to a running cluster, with the Agent-based Installer.
set -eu
umask 077

usage() {
	cat <<END
usage: $0 [extract|check|rhcos|image|wait]

  extract  take openshift-install out of the release at the mirror
  check    read the release at the mirror, and compare it with openshift-install
  rhcos    take the boot image out of the release, as openshift-install does
  image    make the ISO, of copies of the files of this directory
  wait     wait until the hosts that were booted from it are a cluster

Without a word: extract, check, rhcos and image. Boot the hosts then, and run: $0 wait
Results are put into a directory beside this one, or \$WORK. \$RELEASE names another release at the mirror,
\$ARCH another architecture of the hosts (x86_64, aarch64, ppc64le, s390x).
END
}

fail() {
	printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
work=${WORK:-$here-work}
case $work in
*:*) fail "the path $work has a colon, which PATH and oc cannot have" "name another directory: WORK=DIR $0" ;;
/*) ;;
*) work=$PWD/$work ;;
esac
release=${RELEASE:-{{quote .Release}}}
arch=${ARCH:-{{quote .Machine}}}
secret=$here/pull-secret.json
installer=$work/openshift-install
assets=$work/assets
{{- if .CA}}
SSL_CERT_FILE=$here/ca-bundle.pem # for oc and openshift-install, beside the directories of the system
export SSL_CERT_FILE
{{- end}}

# prepare looks for oc, and sets the option by which it reads components at the mirror.
prepare() {
	command -v oc >/dev/null 2>&1 || fail "there is no program oc in PATH" \
		"unpack openshift-client-linux.tar.gz of {{.Version}}, and run: PATH=\$PATH:/where/oc/is $0"
	[ -n "$release" ] || fail "no release is named, and the mirror had none when this file was made" \
		"run: RELEASE={{index .Registries 0}}/REPOSITORY@sha256:DIGEST $0"
	[ -e "$here/oc/idms.yaml" ] || fail "the mirror had no release when this file was made" \
		"mirror one, and make this directory again"
	mkdir -p -- "$work"
	if oc adm release extract --help 2>&1 | grep -q -e '--idms-file'; then
		mirrors=--idms-file=$here/oc/idms.yaml
	else
{{- if .OnlySets}}
		fail "this oc does not know --idms-file: $(command -v oc)" "take oc of {{.Version}}"
{{- else}}
		mirrors=--icsp-file=$here/oc/icsp.yaml
{{- end}}
	fi
}

extract() {
	prepare
	echo "taking openshift-install out of $release"
	oc adm release extract --registry-config="$secret" "$mirrors" --command=openshift-install --to="$work" "$release"
	[ -x "$installer" ] || fail "oc has put no openshift-install into $work" "see its messages above"
}

need_installer() {
	[ -x "$installer" ] || fail "there is no $installer" \
		"take it out of the release: $0 extract (one from the internet would install from the internet)"
}

check() {
	prepare
	need_installer
	oc adm release info --registry-config="$secret" "$mirrors" "$release" >"$work/release.txt"
	sed -n '/^Name:/p; /^Digest:/p' "$work/release.txt"
	"$installer" version >"$work/version.txt"
	cat -- "$work/version.txt"
	case $release in
	*@*)
		grep -q -F -e "${release##*@}" "$work/version.txt" || fail "$installer is of another release than $release" \
			"take it out of this one: $0 extract"
		;;
	esac
}

# openshift-install falls back to the internet, with no more than a warning, if this fails.
rhcos() {
	prepare
	image=$(oc adm release info --registry-config="$secret" "$mirrors" --image-for=machine-os-images "$release")
	echo "taking the boot image for $arch out of $image"
	rm -rf -- "$work/rhcos"
	mkdir -p -- "$work/rhcos"
	oc image extract --registry-config="$secret" "$mirrors" --path="/coreos/coreos-$arch.iso:$work/rhcos" --confirm "$image"
	[ -s "$work/rhcos/coreos-$arch.iso" ] || fail "the release at the mirror has no boot image for $arch" \
		"see what was mirrored, or name another architecture: ARCH=aarch64 $0 rhcos"
	rm -rf -- "$work/rhcos" # it has a gigabyte, and openshift-install takes it out itself
}

filled_in() {
	if grep -n -e {{quote "# FILL-IN"}} -- "$1" >&2; then
		fail "$1 has marks FILL-IN in the lines above" "write what is right there, and delete the marks"
	fi
}

# inputs copies what openshift-install reads into a directory.
inputs() {
	mkdir -p -- "$1"
{{- if .ZeroTouch}}
	if [ -d "$here/cluster-manifests" ]; then
		cp -R -- "$here/cluster-manifests" "$here/mirror" "$1"
		return
	fi
{{- end}}
	cp -- "$here/install-config.yaml" "$here/agent-config.yaml" "$1"
	if [ -d "$here/openshift" ]; then
		cp -R -- "$here/openshift" "$1"
	fi
}

image() {
	prepare
	need_installer
	[ ! -e "$assets" ] || fail "$assets is there from an earlier run, and may have the logins of a cluster" \
		"move it away, or put the new one elsewhere: WORK=DIR $0"
{{- if .ZeroTouch}}
	if [ ! -d "$here/cluster-manifests" ]; then
		filled_in "$here/install-config.yaml"
		filled_in "$here/agent-config.yaml"
	fi
{{- else}}
	filled_in "$here/install-config.yaml"
	filled_in "$here/agent-config.yaml"
{{- end}}
	rm -rf -- "$work/inputs"
	inputs "$work/inputs" # openshift-install deletes those in assets
	cp -R -- "$work/inputs" "$assets"
	echo "openshift-install may warn that no source of imageDigestSources is the release image: that is named at the mirror"
	PATH=$work:$PATH "$installer" agent create image --dir "$assets"
	echo "boot the hosts from the ISO in $assets, and run: $0 wait"
}

wait_for() {
	need_installer
	[ -d "$assets" ] || fail "there is no $assets" "make the ISO first: $0 image"
	"$installer" agent wait-for bootstrap-complete --dir "$assets"
	rm -f -- "$work/failed"
	{
		"$installer" agent wait-for install-complete --dir "$assets" 2>&1 || : >"$work/failed"
	} | sed 's/password: .*/password: see the file auth\/kubeadmin-password/'
	[ ! -e "$work/failed" ] || fail "the installation is not complete" "see the messages above; run $0 wait to go on waiting"
	echo "next: KUBECONFIG=$assets/auth/kubeconfig $here/apply.sh"
}

case ${1-all} in
all)
	extract
	check
	rhcos
	image
	;;
extract | check | rhcos | image) "$1" ;;
wait) wait_for ;;
-h | --help | help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
