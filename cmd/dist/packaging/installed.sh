#!/bin/sh
# After the files of the package have come, of dpkg ("configure") and rpm (1, or 2 at an update).
set -e
case "$1" in abort-*) exit 0 ;; esac

# An image that is being built may have no systemd, or none that runs.
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers appliance.conf
fi
[ -d /run/systemd/system ] || exit 0
systemctl --system daemon-reload || true
if [ ! -e /etc/systemd/system/appliance.service ]; then
	exit 0
elif systemctl --quiet is-enabled appliance-upgrade.service; then
	systemctl --no-block start appliance-upgrade.service || true
else
	echo "The service of the appliance keeps its own copy of the program. To have this version serve:"
	echo "  sudo /usr/bin/appliance upgrade"
fi
