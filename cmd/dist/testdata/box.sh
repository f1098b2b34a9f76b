#!/bin/bash
# In the box of check_test.go: packages of two versions beside an install. Needs old.deb and new.deb in /root.
set -euo pipefail
exec 2>&1
export LC_ALL=C.UTF-8
unit=/etc/systemd/system/appliance.service
serves() { /usr/local/bin/appliance status -o json | grep -q "\"version\": *\"$1\""; }
fail() { echo "FAILED: $*" && exit 1; }
quietly() { # what has to succeed, and its output only if it does not
	local out
	out=$("$@" 2>&1) || fail "$*: $out"
	printf '%s\n' "$out" >/tmp/out
}
printed() { grep -qF "$1" /tmp/out || fail "$1 is not printed: $(cat /tmp/out)"; }
state() {
	find /etc /usr/local /root /var/lib/systemd -xdev -printf '%p %M %u %g %l\n' |
		grep -vE '/etc/(passwd|group|shadow|gshadow|subuid|subgid)-? |/etc/\.pwd.lock|/(random-seed|timesync|\.ssh|catalog|coredump)' | sort
	getent passwd
	getent group
	systemctl list-unit-files --no-legend
}

echo '== the package enables and starts nothing'
state >/tmp/bare
quietly dpkg -i /root/old.deb
getent passwd appliance | grep -q nologin || fail 'there is no user'
! systemctl --quiet is-enabled appliance-upgrade || fail 'a unit is enabled'
! systemctl list-units --all --no-legend 'appliance*' | grep . || fail 'a unit was started'
state >/tmp/packaged

echo '== install, and an update of the package, which leaves what serves'
quietly appliance install --quayHostname registry.sdbox.test
serves v0.0.1 || fail 'the packaged version does not serve'
quietly dpkg -i /root/new.deb
printed 'sudo /usr/bin/appliance upgrade'
serves v0.0.1 || fail 'the update has changed what serves'
quietly /usr/local/bin/appliance upgrade
printed '/usr/bin/appliance upgrade'
quietly /usr/bin/appliance upgrade
serves v0.0.2 || fail 'the upgrade has not changed what serves'

echo '== removal of the package, which leaves the service'
quietly dpkg --purge appliance
printed 'sudo /usr/local/bin/appliance uninstall'
serves v0.0.2 || fail 'the removal has stopped the service'
[ ! -e /usr/bin/appliance ] || fail 'the program is there'

echo '== a unit that follows the package, enabled'
quietly dpkg -i /root/old.deb
serves v0.0.2 || fail 'the package has changed what serves'
quietly systemctl enable appliance-upgrade
for n in old:1 new:2; do
	quietly dpkg -i "/root/${n%:*}.deb"
	for _ in $(seq 50); do
		[ "$(systemctl show -P ActiveState appliance-upgrade)" = inactive ] && serves "v0.0.${n#*:}" && break
		sleep 0.2
	done
	serves "v0.0.${n#*:}" || fail "it does not follow: $(systemctl status --no-pager appliance-upgrade)"
done
quietly dpkg --purge appliance
[ ! -L /etc/systemd/system/multi-user.target.wants/appliance-upgrade.service ] || fail 'the unit is still enabled'

echo '== uninstall beside the package'
quietly dpkg -i /root/old.deb
[ -e $unit ] || fail 'the service is gone'
quietly appliance uninstall --autoApprove
state >/tmp/left
diff /tmp/packaged /tmp/left || fail 'uninstall leaves something'
quietly dpkg --purge appliance
state | grep -v '^appliance:' >/tmp/left
diff /tmp/bare /tmp/left || fail 'the package leaves something'
echo '== done'
