#!/bin/sh
# Applies the files of day2 to the cluster of $KUBECONFIG, in their order. Run it again whenever you like.
set -eu

fail() {
	printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
command -v oc >/dev/null 2>&1 || fail "there is no program oc in PATH" \
	"unpack openshift-client-linux.tar.gz of {{.Version}}, and run: PATH=\$PATH:/where/oc/is $0"
user=$(oc whoami) || fail "oc reaches no cluster" "name its file: KUBECONFIG=/path/of/kubeconfig $0"
echo "applying to the cluster of $(oc whoami --show-server) as $user"
{{- if .Trust}}

# taken refuses to take the place of a ConfigMap that the cluster's configuration names.
taken() {
	name=$(oc get "$1" -o "jsonpath=$2")
	case $name in
	'' | "$3") ;;
	*) fail "$1 names the ConfigMap $name of openshift-config already" \
		"put the certificates of $here/ca-bundle.pem into that one, and run: SKIP_CA=1 $0" ;;
	esac
}

apply_ca() {
	taken image.config.openshift.io/cluster '{.spec.additionalTrustedCA.name}' registry-config
	taken proxy.config.openshift.io/cluster '{.spec.trustedCA.name}' user-ca-bundle
	oc apply -f "$here/day2/10-registry-config.yaml"
	oc apply -f "$here/day2/20-image-config.yaml"
	if bundle=$(oc get configmap user-ca-bundle -n openshift-config -o 'jsonpath={.data.ca-bundle\.crt}' 2>/dev/null); then
{{- range .Marks}}
		case $bundle in
		*{{quote .}}*) ;;
		*) fail "the ConfigMap user-ca-bundle of openshift-config lacks a certificate of $here/ca-bundle.pem" \
			"add it to the key ca-bundle.crt there: oc edit configmap user-ca-bundle -n openshift-config" ;;
		esac
{{- end}}
	else
		oc apply -f "$here/day2/25-user-ca-bundle.yaml"
	fi
	oc apply -f "$here/day2/30-proxy.yaml"
}
[ -n "${SKIP_CA-}" ] || apply_ca
{{- end}}

if oc get operatorhub.config.openshift.io/cluster >/dev/null 2>&1; then
	oc apply -f "$here/day2/40-operatorhub.yaml"
fi
{{- if .Catalogs}}

# The default catalogs of OLM v1; not each cluster has each of them.
for catalog in openshift-redhat-operators openshift-certified-operators openshift-community-operators openshift-redhat-marketplace; do
	if oc get "clustercatalog.olm.operatorframework.io/$catalog" >/dev/null 2>&1; then
		oc patch "clustercatalog.olm.operatorframework.io/$catalog" --type=merge -p '{"spec":{"availabilityMode":"Unavailable"}}'
	fi
done
{{- end}}

# Mirror sets come before catalogs, whose images are at the mirror. Nodes take mirror sets over one by one.
for file in "$here"/day2/[6-9]*.yaml; do
	[ ! -e "$file" ] || oc apply -f "$file"
done
