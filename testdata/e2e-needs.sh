#!/usr/bin/env bash
# Says what `make e2e` lacks on this machine and how to install it; fails if
# anything is missing. With --packages it prints the packages and does nothing else.
set -euo pipefail

# program:package (Debian 12)
needs=(
	podman:podman
	skopeo:skopeo
	containerd:containerd
	ctr:containerd
	systemd-nspawn:systemd-container
	debootstrap:debootstrap
	ip:iproute2
	newuidmap:uidmap
	curl:curl
	update-ca-certificates:ca-certificates
	sshd:openssh-server
	ssh:openssh-client
	openssl:openssl
	chromium-headless-shell:chromium-headless-shell
	node:nodejs
	npm:npm
)

PATH=$PATH:/usr/sbin:/sbin
# Of node there may be another package than Debian's, with npm in it: it is left as it is.
if [ "${1-}" = --packages ]; then
	for need in "${needs[@]}"; do
		case $need in node:* | npm:*) ! command -v "${need%:*}" >/dev/null || continue ;; esac
		echo "${need#*:}"
	done
	exit
fi

failed=0 missing=()
for need in "${needs[@]}"; do
	if ! command -v "${need%:*}" >/dev/null; then
		echo "make e2e needs ${need%:*}, which is not installed" >&2
		missing+=("${need#*:}")
	fi
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "to install it: apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
	failed=1
fi
if [ "$(id -u)" != 0 ]; then
	echo "make e2e needs root, since it boots a systemd in a container: sudo make e2e" >&2
	failed=1
fi
exit "$failed"
