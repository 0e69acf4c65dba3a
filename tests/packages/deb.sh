#!/bin/sh
# deb.sh RELEASE DIR: builds Perfd's package for trixie or bookworm in a chroot of that release, and has lintian read it;
# in another, new one it is installed, measures, is run by systemd, upgraded, removed and purged. As root; DIR keeps the base systems and
# the package. Every step must go as it says, or this fails.
set -eu
release=$1
mkdir -p "$2"
work=$(cd "$2" && pwd)
checkout=$(cd "$(dirname "$0")/../.." && pwd)
base=$work/$release.tar
root=$work/$release.root

leave() {
	if [ -e "$root/var/lib/perfd/perfd.pid" ]; then kill "$(cat "$root/var/lib/perfd/perfd.pid")" 2>/dev/null || true; fi
	if mountpoint -q "$root/proc"; then umount "$root/proc"; fi
}
trap leave EXIT

fresh() {
	leave
	rm -rf "$root"
	mkdir "$root"
	tar -C "$root" -xf "$base"
	if [ -e /etc/resolv.conf ]; then cp /etc/resolv.conf "$root/etc/resolv.conf"; fi
	# pip finds and trusts what it does outside.
	if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/pip.conf"; fi
	mkdir -p "$root/usr/local/share/ca-certificates"
	cp /etc/ssl/certs/ca-certificates.crt "$root/usr/local/share/ca-certificates/outside.crt"
	printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
	mount -t proc proc "$root/proc"
	within apt-get -qq update
}

within() {
	chroot "$root" /usr/bin/env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$@"
}

install_package() {
	within apt-get -qq -y --no-install-recommends install "$1" > "$work/$release.apt.log" 2>&1 || { cat "$work/$release.apt.log"; exit 1; }
}

step() {
	echo "$release: $*"
}

if [ ! -e "$base" ]; then
	step "debootstrap"
	rm -rf "$root"
	debootstrap --variant=minbase "$release" "$root" > "$work/$release.debootstrap.log"
	tar -C "$root" -cf "$base.new" .
	mv "$base.new" "$base"
fi

step "build"
fresh
install_package build-essential
install_package lintian
mkdir "$root/checkout"
(cd "$checkout" && git ls-files -z | tar -c --null -T - ) | tar -x -C "$root/checkout"
within /checkout/debian/build-package "$release" /built > "$work/$release.build.log" 2>&1 || { tail -30 "$work/$release.build.log"; exit 1; }
step "lintian"
within sh -c 'lintian --fail-on error,warning /built/*.changes'
# A package that is newer by its number alone, to upgrade to.
within sh -c 'cd /built && dpkg-deb -R perfd_*.deb new && sed -i "s/^Version: .*/&.1/" new/DEBIAN/control && dpkg-deb -b new newer.deb > /dev/null && rm -r new'
rm -rf "$work/$release"
cp -r "$root/built" "$work/$release"

step "install"
fresh
mkdir "$root/built"
cp "$work/$release"/*.deb "$root/built"
(cd "$root/built" && mv perfd_*.deb perfd.deb)
install_package systemd
install_package dbus
install_package /built/perfd.deb
within sh -c 'id perfd && test "$(stat -c "%a %U %G" /var/lib/perfd)" = "1770 root perfd"'
within sh -c 'cd /usr/share && grep -q perfd bash-completion/completions/perfd && grep -q "#compdef perfd" zsh/vendor-completions/_perfd'
within sh -c 'grep -q "complete .*perfd" /usr/share/fish/vendor_completions.d/perfd.fish'
within sh -c 'test -e /usr/share/man/man1/perfd.1.gz && test -e /usr/share/man/man5/perfd.conf.5.gz'
within systemd-analyze verify --man=no /lib/systemd/system/perfd.service /lib/systemd/system/perfd@.service
within perfd check --config /var/lib/perfd/perfd.conf

step "measure"
within sed -i 's/^network = testnet/network = socks/; s/^listen = .*/listen = 127.0.0.1:18099/' /etc/perfd/perfd.conf
within perfd start --config /var/lib/perfd/perfd.conf
sleep 15
within sh -c 'cd /var/lib/perfd && perfd results --plain && perfd results --json --limit 1 | grep -q "\"ok\""'
# What this package goes without, it says how to get here.
within sh -c 'cd /var/lib/perfd && perfd export --format parquet --output /tmp/x.parquet 2>&1 | grep "pipx install"'
test "$(stat -c %U "/proc/$(cat "$root/var/lib/perfd/perfd.pid")")" != root
within perfd stop --config /var/lib/perfd/perfd.conf
# The private network of six tors, as the daemon's user.
within sh -c 'cd /tmp && runuser -u perfd -- perfd measure --size 50KiB --count 2'

step "systemd"
if command -v systemd-nspawn > /dev/null; then
	cp "$checkout/tests/packages/systemd.sh" "$root/systemd.sh"
	printf '%s\n' '[Unit]' 'After=multi-user.target' '[Service]' 'Type=oneshot' 'ExecStart=/systemd.sh' 'StandardOutput=file:/systemd.log' \
		'StandardError=inherit' 'ExecStopPost=/bin/systemctl poweroff --no-block' > "$root/etc/systemd/system/trial.service"
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -s ../trial.service "$root/etc/systemd/system/multi-user.target.wants"
	# A newer systemd hangs where a /proc is below its own, or under the older control groups that this machine may have.
	umount "$root/proc"
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 300 systemd-nspawn --quiet --directory "$root" --machine perfd-test --boot --register=no --keep-unit > "$work/$release.boot.log" 2>&1 ||
		tail "$work/$release.boot.log"
	mount -t proc proc "$root/proc"
	test -e "$root/systemd.done" || { tail -30 "$root/systemd.log"; exit 1; }
	rm "$root/etc/systemd/system/multi-user.target.wants/trial.service" "$root/etc/systemd/system/trial.service"
	rm -r "$root/etc/perfd/other.conf" "$root/var/lib/perfd-other"
else
	step "there is no systemd-nspawn here (Debian: systemd-container), so systemd does not run the units"
fi

step "upgrade"
within apt-get -qq -y install /built/newer.deb > "$work/$release.apt.log" 2>&1
within sh -c 'grep -q "network = socks" /etc/perfd/perfd.conf && test -s /var/lib/perfd/perfd.sqlite'
within sh -c 'cd /var/lib/perfd && perfd start && perfd status | grep "is running"'

step "remove"
within apt-get -qq -y remove perfd > "$work/$release.apt.log" 2>&1
test ! -e "$root/var/lib/perfd/perfd.pid"
within test -s /var/lib/perfd/perfd.sqlite -a -e /etc/perfd/perfd.conf
step "purge"
within apt-get -qq -y purge perfd > "$work/$release.apt.log" 2>&1
within sh -c 'test ! -e /var/lib/perfd && test ! -e /etc/perfd && ! command -v perfd && test ! -e /opt/venvs/perfd'
leave
rm -rf "$root"
echo "$release: all is well; the package is in $work/$release"
