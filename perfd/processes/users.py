"""Users of this machine: becoming one of them, and asking something as one of them."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Callable, Sequence
from typing import Any

import attrs


class UserError(Exception):
    """There is no such user, or this process cannot become that; the message says which."""


@attrs.frozen
class User:
    """A user and a group by name or number, as twistd's --uid and --gid; None: those of this process."""

    uid: str | None = None
    gid: str | None = None

    def arguments(self) -> list[str]:
        """For twistd."""
        given = (("--uid", self.uid), ("--gid", self.gid))
        return [word for option, value in given if value is not None for word in (option, value)]

    def entry(self) -> pwd.struct_passwd | None:
        """The user's entry; None when privileges are kept. Raises UserError for an unknown user."""
        if self.uid is None:
            return None
        try:
            return pwd.getpwuid(int(self.uid)) if self.uid.isdigit() else pwd.getpwnam(self.uid)
        except KeyError:
            raise UserError(f"user {self.uid}: there is no such user") from None

    def group_id(self) -> int | None:
        """The group's number, the user's first one if none was given. Raises UserError for an unknown group."""
        if self.gid is None:
            entry = self.entry()
            return None if entry is None else entry.pw_gid
        try:
            return (grp.getgrgid(int(self.gid)) if self.gid.isdigit() else grp.getgrnam(self.gid)).gr_gid
        except KeyError:
            raise UserError(f"group {self.gid}: there is no such group") from None

    def of_process(self) -> dict[str, Any]:
        """As which user ``subprocess`` runs a program, for its functions. Raises UserError."""
        entry, group = self.entry(), self.group_id()
        if entry is None or group is None:
            return {}
        groups = os.getgrouplist(entry.pw_name, group)
        return {"user": entry.pw_uid, "group": group, "extra_groups": groups}

    def become(self) -> None:
        """This process is the user's from now on, for good. Raises UserError and OSError."""
        entry, group = self.entry(), self.group_id()
        if entry is None or group is None:
            return
        become(entry.pw_uid, group, os.getgrouplist(entry.pw_name, group))
        os.environ.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)

    def ask(self, question: Callable[[], list[str]]) -> list[str]:
        """What ``question`` gives if this user asks it: in a child process, so that this one stays who it is.

        For before the reactor runs. Raises UserError and OSError.
        """
        entry = self.entry()
        if entry is None or entry.pw_uid == os.geteuid():
            return question()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._answer(question, writing)
        os.close(writing)
        with open(reading, encoding="utf-8") as answers:
            text = answers.read()
        os.waitpid(pid, 0)
        try:
            answer: list[str] = json.loads(text)
        except ValueError:
            raise UserError(f"Perfd cannot do as {entry.pw_name} what its start needs") from None
        return answer

    def _answer(self, question: Callable[[], list[str]], writing: int) -> None:
        """In the child: write the answer, and end without what the parent does at its end."""
        try:
            self.become()
            with open(writing, "w", encoding="utf-8") as answers:
                json.dump(question(), answers)
        finally:
            os._exit(0)


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """This process is that user's from now on, for good, with nothing left of root's groups. Raises OSError."""
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def user_name(uid: int) -> str:
    """For people."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def group_name(gid: int) -> str:
    """For people, and for chown."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
