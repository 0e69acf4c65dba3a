"""Root starts a daemon that becomes somebody else: whom, and what must be true of the files before.

Whoever the daemon becomes must never be able to have root run, read or write what he chose. So the directory,
perfd.conf and the control script are root's; the daemon's user can make files in the directory and cannot
replace root's (mode 1770).
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import perfd
from perfd.config import Config
from perfd.instance import Instance, InstanceError, umask
from perfd.processes.modules import module_environment
from perfd.processes.users import User, become, group_name, user_name

INSTALL = "install it where this user can read it, such as /opt"

PATIENCE = 30.0
"""Seconds that the daemon's user may take to import Perfd."""


def daemon_user(config: Config, uid: str | None, gid: str | None) -> User:
    """Whom the daemon becomes: as it was given, else, if this is root, as perfd.conf says."""
    if uid is None and gid is None and os.geteuid() == 0:
        return User(config.user, config.group)
    return User(uid, gid)


def work_as_owner(config: Config, *, writes: bool = False) -> None:
    """Root becomes whose instance it is, for good, before anything in there is opened.

    Where others may make files, what root opens could be a link to somewhere else. ``writes``: what is made is no
    more for others than what the daemon makes. Raises InstanceError, UserError and OSError.
    """
    if writes:
        os.umask(os.umask(0o077) | umask(config.server.results))
    if os.geteuid() != 0:
        return
    user, directory = daemon_user(config, None, None), config.directory
    if user.entry() is not None:
        user.become()
    elif directory.exists() and (owner := directory.stat()).st_uid != 0:
        become(owner.st_uid, owner.st_gid, [owner.st_gid])
    elif found := next(_not_of_root(config), None):
        raise InstanceError(found)
    for module in (os, perfd):  # not all that is needed has been imported yet
        if not os.access(str(module.__file__), os.R_OK):
            name = user_name(os.geteuid())
            raise InstanceError(f"{name} cannot run Perfd, since {module.__file__} is closed to it: {INSTALL}")


def obstacle(user: User, config: Config) -> str | None:
    """Why this process cannot start the daemon as ``user``, with the remedy; None if it can.

    Raises UserError for an unknown user or group.
    """
    entry, group = user.entry(), user.group_id()  # these are looked up before anything else is
    if os.geteuid() != 0:
        return None if user == User() else "another user for the daemon needs root"
    return next(_obstacles(config, user, entry, group), None)


def _obstacles(config: Config, user: User, entry: pwd.struct_passwd | None, gid: int | None) -> Iterator[str]:
    # What root itself would run comes first, and alone: until that is right, nothing else in there counts.
    directory = config.directory
    for path in _root_runs(config):
        if path.exists() and (who := may_change(path)):
            group = "root" if gid is None else group_name(gid)
            files = f"{directory}/perfd.conf {directory}/perfd"
            yield (
                f"{path} can be changed by {who}, and root would run what is there: "
                f"chown root:{group} {directory}; chmod 1770 {directory}; chown root {files}; chmod go-w {files} "
                "(and nobody else may own a directory above)"
            )
            return
    if entry is None or entry.pw_uid == 0:
        yield from _not_of_root(config)
        yield from _programs_of_others(config)
        return
    uid = entry.pw_uid
    if not _may_write(directory.stat(), uid, gid):
        group = group_name(entry.pw_gid if gid is None else gid)
        yield f"{entry.pw_name} cannot write in {directory}: chown root:{group} {directory}; chmod 1770 {directory}"
    for path in _written(config):
        if not os.path.lexists(path) or (found := path.lstat()).st_uid == uid:
            continue
        if stat.S_ISREG(found.st_mode):
            remedy = f"chown -h {entry.pw_name} {path}"
            yield f"{path} belongs to user id {found.st_uid}, and the daemon writes it: {remedy}"
        elif not stat.S_ISLNK(found.st_mode):  # a link of root's may lead anywhere that its user may write
            yield f"{path} is no regular file, and so not Perfd's: remove it"
    if trouble := _import_trouble(config, user):
        yield trouble


NAME_USER = "name the daemon's user: `user = NAME` in [perfd] of perfd.conf, or --uid NAME"


def _not_of_root(config: Config) -> Iterator[str]:
    """What in the directory is, or may be put there by, somebody else: root would follow links in its place."""
    directory = config.directory
    if not directory.exists():
        return
    if who := may_change(directory, even_sticky=True):
        yield f"{directory} can be written by {who}, and root would follow links there: {NAME_USER}"
        return
    for path in directory.iterdir():
        if owner := path.lstat().st_uid:
            yield (
                f"{path} belongs to {user_name(owner)}, and root would write there: {NAME_USER}; or hand all of it "
                f"to root: chown -R root {directory}"
            )
            return


def _programs_of_others(config: Config) -> Iterator[str]:
    """Programs that the daemon would run as root, and others can change."""
    from perfd.processes.programs import found_program  # noqa: PLC0415 - Twisted; --help must not wait for it

    for program in _programs(config):
        found = found_program(program)
        path = None if found is None else Path(found).resolve()
        for each in () if path is None else (path, path.parent):
            if who := may_change(each, even_sticky=True):
                yield f"{each} can be changed by {who}, and root would run {path}: {NAME_USER}"
                return


def _programs(config: Config) -> Iterator[str]:
    """The programs that the daemon launches."""
    used = {name for experiment in config.experiments for name in experiment.browsers}
    for tor in config.tors:
        if tor.control is None:
            yield tor.binary
    for browser in config.browsers:
        if browser.name in used:
            yield from (browser.binary, *([browser.geckodriver] if browser.driver == "selenium" else []))
    for client in config.clients:
        yield from client.command[:1]
    for comparison in config.comparisons:
        yield from (arm.binary for arm in comparison.arms if arm.binary)


def _root_runs(config: Config) -> Sequence[Path]:
    """What decides on what root runs: the configuration, the control script, and every directory above them."""
    directory = config.directory.resolve()
    return (config.path.resolve(), directory / "perfd", directory, *directory.parents)


def may_change(path: Path, *, even_sticky: bool = False) -> str | None:
    """Who besides root may write ``path``, or replace what is in it if that is a directory.

    In a sticky directory nobody can replace what is root's; ``even_sticky``: but can make what is not there.
    """
    found = path.stat()
    if found.st_uid != 0:
        return user_name(found.st_uid)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and not even_sticky:
        return None
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        return f"the group {group_name(found.st_gid)}"
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


def _import_trouble(config: Config, user: User) -> str | None:
    """Why the daemon's user cannot run this Perfd: its Python or its package may be in a directory of root's."""
    command = [sys.executable, "-P", "-c", "import perfd.service"]
    try:
        done = subprocess.run(
            command,
            cwd=config.directory,
            env=module_environment(),
            **user.of_process(),
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
    return f"{user.uid} cannot run Perfd with {sys.executable}: {why}; {INSTALL}"
