#!/bin/sh
# systemd.sh: run as root by the systemd of a system on which the package is installed, with network = socks on port 18099:
# both units are started, measure, are reloaded and stopped. It writes /systemd.done at the end, and its log to /systemd.log.
set -eux
systemctl start perfd
systemctl show perfd --property=StatusText | grep '=.*healthy'
sed 's/127.0.0.1:18099/127.0.0.1:18098/' /etc/perfd/perfd.conf > /etc/perfd/other.conf
systemctl start perfd@other
for directory in /var/lib/perfd /var/lib/perfd-other; do
	cd "$directory"
	tries=0
	until perfd results --csv | grep ',ok,'; do
		tries=$((tries + 1))
		test "$tries" -lt 30
		sleep 1
	done
done
sed -i 's/^interval = 5 s/interval = 7 s/' /etc/perfd/perfd.conf
systemctl reload perfd
grep 'perfd.conf was reloaded: \[experiment:download-50k\]' /var/lib/perfd/perfd.log
systemctl stop perfd perfd@other
test "$(systemctl show perfd perfd@other --property=Result | sort -u | tr -d '\n')" = Result=success
touch /systemd.done
