#!/bin/sh
# Has the cluster of $KUBECONFIG find its updates: with the operator of OpenShift's update service, out of the
# mirrored graph.
set -eu
umask 077

fail() {
	printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

# until_there runs a command until it succeeds, for at most ten minutes.
until_there() {
	n=0
	until "$@" >/dev/null 2>&1; do
		n=$((n + 1))
		[ "$n" -lt 60 ] || fail "still failing after ten minutes: $*" "oc get pods -n openshift-update-service, and oc describe what does not start"
		sleep 10
	done
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
channel=${1-{{quote .Channel}}}
command -v oc >/dev/null 2>&1 || fail "there is no program oc in PATH" \
	"unpack openshift-client-linux.tar.gz of {{.Version}}, and run: PATH=\$PATH:/where/oc/is $0"
oc whoami >/dev/null || fail "oc reaches no cluster" "name its file: KUBECONFIG=/path/of/kubeconfig $0"

oc apply -f "$here/updates/10-operator.yaml"
until_there oc get crd/updateservices.updateservice.operator.openshift.io
oc apply -f "$here/updates/20-update-service.yaml"
name=$(oc get updateservice -n openshift-update-service -o 'jsonpath={.items[0].metadata.name}')

# The version operator asks the service by its route: it has to trust the CA of the ingress.
dir=$(mktemp -d)
trap 'rm -rf -- "$dir"' EXIT
oc get configmap default-ingress-cert -n openshift-config-managed -o 'jsonpath={.data.ca-bundle\.crt}' >"$dir/ingress.pem"
oc get configmap user-ca-bundle -n openshift-config -o 'jsonpath={.data.ca-bundle\.crt}' >"$dir/before.pem" 2>/dev/null || : >"$dir/before.pem"
mark=$(grep -v -e '-----' -- "$dir/ingress.pem" | tail -n 2 | head -n 1)
if [ -n "$mark" ] && ! grep -q -F -e "$mark" -- "$dir/before.pem"; then
	{
		cat -- "$dir/before.pem"
		echo
		cat -- "$dir/ingress.pem"
	} >"$dir/ca-bundle.crt"
	oc create configmap user-ca-bundle -n openshift-config --from-file="$dir/ca-bundle.crt" --dry-run=client -o yaml | oc apply -f -
	oc patch proxy.config.openshift.io/cluster --type=merge -p '{"spec":{"trustedCA":{"name":"user-ca-bundle"}}}'
fi

uri() {
	uri=$(oc get updateservice "$name" -n openshift-update-service -o 'jsonpath={.status.policyEngineURI}')
	[ -n "$uri" ]
}
until_there uri
oc patch clusterversion version --type=merge -p "{\"spec\":{\"upstream\":\"$uri/api/upgrades_info/v1/graph\"}}"
oc adm upgrade channel "$channel"
oc adm upgrade
