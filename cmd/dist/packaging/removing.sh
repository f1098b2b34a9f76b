#!/bin/sh
# Before the files of the package go, of dpkg ("remove") and rpm (0).
set -e
case "$1" in remove | 0) ;; *) exit 0 ;; esac

[ -d /run/systemd/system ] || exit 0
systemctl --quiet disable appliance-upgrade.service || true
if [ -e /etc/systemd/system/appliance.service ]; then
	echo "The service of the appliance goes on, with its own copy of the program. To remove it as well:"
	echo "  sudo /usr/local/bin/appliance uninstall"
fi
