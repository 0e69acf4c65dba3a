"""A real systemd as PID 1 of namespaces of its own, with nothing but one unit; needs root.

It sees this machine's files, but for what it writes to: /run, /opt, /var/lib and /etc/passwd are its own, and end
with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from sysconfig import get_path

from tests.support.instance import wait_for

SYSTEMD = Path("/lib/systemd/systemd")

_HIERARCHIES = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))

# Only the unit and what it needs is started: nothing of this machine's own boot.
_BOOT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
for directory in /run /opt /var/lib /etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs "$directory"; done
mkdir -p /run/systemd/system /run/lock
cp -r "$PLACE/opt/." /opt
mkdir /opt/libraries
mount --bind "$LIBRARIES" /opt/libraries
cp -r "$PLACE/lib/." /var/lib
cp "$PLACE"/units/* /run/systemd/system
cp -r "$PLACE"/drop-ins/. /run/systemd/system
cp /etc/passwd /run/passwd
echo "perfd:x:9876:9876::/nonexistent:/usr/sbin/nologin" >> /run/passwd
mount --bind /run/passwd /etc/passwd
cp /etc/group /run/group
echo "perfd:x:9876:" >> /run/group
mount --bind /run/group /etc/group
chown -R perfd:perfd /var/lib/perfd
if grep -q "/sys/fs/cgroup tmpfs" /proc/mounts; then
    umount -R /sys/fs/cgroup
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec env -i container=lxc PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    "$SYSTEMD" --system --unit=test.target --log-target=null --show-status=no
"""

_TARGET = "[Unit]\nDefaultDependencies=no\n"


class Systemd:
    """A systemd that runs; ``pid`` is its process as this machine sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *command: str, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a command where it runs."""
        enter = ("nsenter", "--target", str(self.pid), "--mount", "--pid", "--uts", "--ipc", "--cgroup")
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, check=False, timeout=timeout, cwd="/"
        )

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", "--no-pager", *arguments)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.systemctl("show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())


@contextmanager
def booted(place: Path, units: Mapping[str, str], drop_ins: Mapping[str, str]) -> Iterator[Systemd]:
    """A systemd with ``units`` and their ``drop_ins``.

    ``place``/opt and ``place``/lib go to /opt and /var/lib; /opt/libraries are those of this Python.
    """
    for name, texts in (("units", {**units, "test.target": _TARGET}), ("drop-ins", drop_ins)):
        (place / name).mkdir()
        for file, text in texts.items():
            path = place / name / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    groups = [each / f"perfd-test-{os.getpid()}" for each in _HIERARCHIES if (each / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()

    join = "".join(f"echo $$ > {group}/cgroup.procs\n" for group in groups)
    enter = 'exec unshare --pid --fork --mount --uts --ipc --cgroup --kill-child sh -c "$BOOT"'
    given = {"PLACE": str(place), "LIBRARIES": get_path("purelib"), "SYSTEMD": str(SYSTEMD), "BOOT": _BOOT}
    environment = {**os.environ, **given}
    with subprocess.Popen(["sh", "-c", join + enter], env=environment, stderr=subprocess.PIPE, text=True) as outer:
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            found = Systemd(int(wait_for(lambda: children.read_text().split(), "the first process", 10.0)[0]))
            wait_for(lambda: _is_up(found, outer), "systemd", 30.0)
            yield found
        finally:
            outer.kill()
            outer.wait()
            for group in groups:
                _remove(group)


def _is_up(systemd: Systemd, outer: subprocess.Popen[str]) -> bool:
    assert outer.poll() is None, outer.stderr and outer.stderr.read()
    return systemd.systemctl("is-active", "test.target").stdout.strip() == "active"


def _remove(group: Path) -> None:
    """Its processes have been killed, which takes a moment."""

    def is_removed() -> bool:
        for directory in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                directory.rmdir()
        with suppress(OSError):
            group.rmdir()
        return not group.exists()

    wait_for(is_removed, "the end of all processes", 30.0)


def why_not() -> str | None:
    """Why there can be no systemd here; None if there can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    if not SYSTEMD.exists() or shutil.which("nsenter") is None:
        return "needs systemd and util-linux"
    if not any((each / "cgroup.procs").exists() for each in _HIERARCHIES):
        return "needs control groups"
    return None
