"""``perfd backup`` and ``perfd restore``: an instance in one file, also while its daemon runs, and back."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from perfd.cli.output import complain, say
from perfd.cli.privileges import daemon_user, may_change, work_as_owner
from perfd.cli.terminal import Progress
from perfd.config import Config, ConfigError, load_config
from perfd.instance import CONFIG_FILE, InstanceError, control_script
from perfd.processes.users import user_name
from perfd.store.database import StoreError, back_up, connect_readonly, database_path
from perfd.store.schema import open_database
from perfd.units import format_size

DATABASE = "perfd.sqlite"
"""The database's name in a backup, whatever it is called in the instance."""

KEYS = ("onion/key", "onion/client-key")
"""What makes the onion service the same one elsewhere; relative to the instance."""

SCRIPT = "perfd"
"""The control script; a restored instance gets the one of the Perfd that restores it."""


def backup(config: Config, target: Path, *, with_keys: bool) -> int:
    """Write the database and perfd.conf of an instance into ``target``, a tar file that only its owner can read.

    The database is as it was at one moment. ``with_keys``: also the keys of its onion service, which must then be
    kept as secret as they are. Raises StoreError, sqlite3.Error and OSError.
    """
    if target.exists():
        complain(f"{target} is there already; name another file, or remove it")
        return 1
    database = database_path(config.database, config.directory)
    with _scratch(target.parent) as directory, Progress("backup") as progress:
        copy = directory / DATABASE
        with closing(connect_readonly(database)) as connection:
            back_up(connection, copy, lambda percent: progress.update(f"{percent:.0f} %", percent, 100.0))
        packed = directory / "packed"
        with tarfile.open(packed, "x", format=tarfile.PAX_FORMAT) as archive:
            archive.add(copy, DATABASE, filter=_anonymous)
            archive.add(config.path, CONFIG_FILE, filter=_anonymous)
            keys = [name for name in KEYS if with_keys and (config.directory / name).exists()]
            for name in keys:
                archive.add(config.directory / name, name, filter=_anonymous)
        packed.chmod(0o600)
        os.link(packed, target)  # fails if somebody made it meanwhile
    say(f"wrote {target}: {', '.join((DATABASE, CONFIG_FILE, *keys))}, {format_size(target.stat().st_size)}")
    return 0


def restore(source: Path, directory: Path) -> int:
    """Make the instance ``directory`` of a backup. Nothing that is there is replaced.

    Raises InstanceError, StoreError and OSError.
    """
    if refusal := _refusal(source, directory):
        raise InstanceError(refusal)
    present = [name for name in (DATABASE, CONFIG_FILE, SCRIPT, *KEYS) if os.path.lexists(directory / name)]
    if present:
        complain(f"{directory} has {', '.join(present)} already; restore into another directory")
        return 1
    with _opened(source) as archive:
        members = {member.name: member for member in _members(archive, source)}
        missing = [name for name in (DATABASE, CONFIG_FILE) if name not in members]
        if missing:
            raise InstanceError(f"{source} is no backup of Perfd: it has no {' and no '.join(missing)}")
        with _closed(directory):
            _write(archive, members, directory)
    if _is_ours(directory):
        open_database(directory / DATABASE).close()  # of an older version, it is upgraded
    say(f"restored {directory} with {', '.join(members)}")
    _advise(directory)
    return 0


def _write(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], directory: Path) -> None:
    for name, member in members.items():
        _extract(archive, member, directory / name)
    with (directory / SCRIPT).open("x", encoding="utf-8") as file:
        file.write(control_script())
        os.fchmod(file.fileno(), 0o755)
    _hand_over(directory, [name for name in members if name != CONFIG_FILE])


def _refusal(source: Path, directory: Path) -> str | None:
    """Why root does not restore this there: what others could have changed decides what root runs later."""
    if os.geteuid() != 0:
        return None
    if who := may_change(source):
        return (
            f"{source} can be changed by {who}, and root would start what its perfd.conf says: look at that, then "
            f"chown root {source}; chmod go-w {source}; or restore it as that user"
        )
    if directory.exists() and (owner := directory.lstat().st_uid) != 0:
        return f"{directory} belongs to {user_name(owner)}: restore as that user, or name a new directory"
    return None


@contextmanager
def _closed(directory: Path) -> Iterator[None]:
    """While root writes files into the directory, nobody else can put links there."""
    directory.mkdir(parents=True, exist_ok=True)
    mode = directory.stat().st_mode & 0o7777
    if os.geteuid() != 0 or not mode & 0o022:
        yield
        return
    directory.chmod(0o700)
    try:
        if planted := next((path for path in directory.iterdir() if path.lstat().st_uid != 0), None):
            raise InstanceError(f"{planted} is not root's; restore into a directory that is new, or empty")
        yield
    finally:
        directory.chmod(mode)


def _hand_over(directory: Path, written: Sequence[str]) -> None:
    """Root gives the daemon's user what it has ``written`` for it. Raises UserError and OSError."""
    try:
        config = load_config(directory)
    except ConfigError:
        return
    user = daemon_user(config, None, None)
    entry, group = user.entry(), user.group_id()
    if entry is not None and group is not None:
        for name in written:
            for path in (directory / name, *(directory / name).parents):
                if path != directory and path.is_relative_to(directory):
                    os.chown(path, entry.pw_uid, group, follow_symlinks=False)


def _is_ours(directory: Path) -> bool:
    """Whether this process may open the database: root becomes the daemon's user first.

    Raises InstanceError, UserError and OSError.
    """
    try:
        config = load_config(directory)
    except ConfigError:
        return os.geteuid() != 0
    work_as_owner(config, writes=True)
    return True


def _advise(directory: Path) -> None:
    """Say what may still have to be done."""
    try:
        config = load_config(directory)
        named = database_path(config.database, config.directory)
    except (ConfigError, StoreError) as error:
        say(f"its perfd.conf needs a look: {error}")
        return
    if named != directory.absolute() / DATABASE:
        say(f"its perfd.conf names the database {named}: move {directory / DATABASE} there, or change that")
    say(f"next: cd {directory}; ./perfd check; ./perfd start (the instance that was backed up must not run too)")


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise InstanceError(f"{source} is no backup of Perfd, or is damaged: {error}") from None


def _members(archive: tarfile.TarFile, source: Path) -> Iterator[tarfile.TarInfo]:
    """The files that a backup may have; anything else is refused."""
    known = (DATABASE, CONFIG_FILE, *KEYS)
    for number, member in enumerate(archive):
        if number >= len(known) or not member.isfile() or member.name not in known:
            raise InstanceError(f"{source} is no backup of Perfd: it has {member.name[:100]!r}")
        yield member


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = archive.extractfile(member) or io.BytesIO()
    mode = 0o644 if path.name == CONFIG_FILE else 0o600
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        shutil.copyfileobj(data, file)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names of this machine's users."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory beside the target, so that the whole file appears at once."""
    path = Path(tempfile.mkdtemp(prefix=".perfd-backup-", dir=directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
