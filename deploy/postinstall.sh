#!/bin/sh
# After the package's files are there: make the users and their folders, read
# the units. Nothing is enabled or started.
set -e
if command -v systemd-sysusers > /dev/null; then
	systemd-sysusers /usr/lib/sysusers.d/stella.conf
fi
if command -v systemd-tmpfiles > /dev/null; then
	systemd-tmpfiles --create /usr/lib/tmpfiles.d/stella.conf
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
