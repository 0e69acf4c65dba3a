"""Root starts a daemon that becomes somebody else: whom, and what must be true of the files before.

Whoever the daemon becomes must never be able to have root run, read or write what he chose. So the directory,
perfd.conf and the control script are root's; the daemon's user can make files in the directory and cannot
replace root's (mode 1770).
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from perfd.config import Config
from perfd.instance import Instance, InstanceError
from perfd.processes.modules import module_environment

PATIENCE = 30.0
"""Seconds that the daemon's user may take to import Perfd."""


@attrs.frozen
class User:
    """The user and group that the daemon changes to after its port is bound; twistd's --uid and --gid."""

    uid: str | None = None
    gid: str | None = None

    @classmethod
    def of(cls, config: Config, uid: str | None, gid: str | None) -> User:
        """``uid`` and ``gid`` as they were given, else those of perfd.conf, if this is root."""
        if uid is None and gid is None and os.geteuid() == 0:
            return cls(config.user, config.group)
        return cls(uid, gid)

    def arguments(self) -> list[str]:
        """For twistd."""
        given = (("--uid", self.uid), ("--gid", self.gid))
        return [word for option, value in given if value is not None for word in (option, value)]

    def entry(self) -> pwd.struct_passwd | None:
        """The user's entry; None when privileges are kept. Raises InstanceError for an unknown user."""
        if self.uid is None:
            return None
        try:
            return pwd.getpwuid(int(self.uid)) if self.uid.isdigit() else pwd.getpwnam(self.uid)
        except KeyError:
            raise InstanceError(f"user {self.uid}: there is no such user") from None

    def group_id(self) -> int | None:
        """The group's number, the user's first one if none was given. Raises InstanceError for an unknown group."""
        if self.gid is None:
            entry = self.entry()
            return None if entry is None else entry.pw_gid
        try:
            return (grp.getgrgid(int(self.gid)) if self.gid.isdigit() else grp.getgrnam(self.gid)).gr_gid
        except KeyError:
            raise InstanceError(f"group {self.gid}: there is no such group") from None


def obstacle(user: User, config: Config) -> str | None:
    """Why this process cannot start the daemon as ``user``, with the remedy; None if it can.

    Raises InstanceError for an unknown user or group.
    """
    entry, group = user.entry(), user.group_id()
    if os.geteuid() != 0:
        return None if user == User() else "another user for the daemon needs root"
    target = 0 if entry is None else entry.pw_uid
    return next(_obstacles(config, entry, target, group), None)


def _obstacles(config: Config, entry: pwd.struct_passwd | None, uid: int, gid: int | None) -> Iterator[str]:
    # What root itself would run comes first, and alone: until that is right, nothing else in there counts.
    directory = config.directory
    for path in _root_runs(config):
        if path.exists() and (who := _may_change(path)):
            group = "root" if gid is None else _group_name(gid)
            files = f"{directory}/perfd.conf {directory}/perfd"
            yield (
                f"{path} can be changed by {who}, and root would run what is there: "
                f"chown root:{group} {directory}; chmod 1770 {directory}; chown root {files}; chmod go-w {files} "
                "(and nobody else may own a directory above)"
            )
            return
    if entry is None or uid == 0:
        return
    if not _may_write(directory.stat(), uid, gid):
        group = _group_name(entry.pw_gid if gid is None else gid)
        yield f"{entry.pw_name} cannot write in {directory}: chown root:{group} {directory}; chmod 1770 {directory}"
    for path in _written(config):
        if path.exists() and (owner := path.stat().st_uid) != uid:
            yield f"{path} belongs to user id {owner}, and the daemon writes it: chown {entry.pw_name} {path}"
    if trouble := _import_trouble(config, entry, gid):
        yield trouble


def _root_runs(config: Config) -> Sequence[Path]:
    """What decides on what root runs: the configuration, the control script, and every directory above them."""
    directory = config.directory.resolve()
    return (config.path.resolve(), directory / "perfd", directory, *directory.parents)


def _may_change(path: Path) -> str | None:
    """Who besides root may write ``path``, or replace what is in it if that is a directory."""
    found = path.stat()
    if found.st_uid != 0:
        return _user_name(found.st_uid)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        return f"the group {_group_name(found.st_gid)}"
    return None


def _may_write(found: os.stat_result, uid: int, gid: int | None) -> bool:
    """Whether the user may make files in the directory."""
    for matches, shift in ((found.st_uid == uid, 6), (found.st_gid == gid, 3), (True, 0)):
        if matches:
            return found.st_mode >> shift & 0o3 == 0o3
    raise AssertionError("unreachable")


def _written(config: Config) -> Sequence[Path]:
    """What the daemon opens for writing at its start."""
    instance = Instance(config.directory)
    database = config.directory / config.database.removeprefix("sqlite:///")
    return (instance.lock_file, instance.log_file, database)


def _import_trouble(config: Config, entry: pwd.struct_passwd, gid: int | None) -> str | None:
    """Why the daemon's user cannot run this Perfd: its Python or its package may be in a directory of root's."""
    command = [sys.executable, "-P", "-c", "import perfd.service"]
    group = entry.pw_gid if gid is None else gid
    try:
        done = subprocess.run(
            command,
            cwd=config.directory,
            env=module_environment(),
            user=entry.pw_uid,
            group=group,
            extra_groups=os.getgrouplist(entry.pw_name, group),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    else:
        if done.returncode == 0:
            return None
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    return (
        f"{entry.pw_name} cannot run Perfd with {sys.executable}: {why}; install it where this user can read it, "
        "such as /opt"
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
