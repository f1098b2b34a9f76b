#!/bin/sh
# After the files of the package have gone. The system user stays, since it may own files.
set -e
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload || true
fi
