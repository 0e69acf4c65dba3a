"""Reloading perfd.conf while Perfd runs: it is read and checked in a thread, then taken over or refused."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd.config import Config, ConfigError
from perfd.daemon.changes import Changes
from perfd.instance import ReloadReport


class Reloads:
    """Does one reload at a time. Who asks for one meanwhile gets another: the file may have been changed by then.

    ``read`` gives what perfd.conf says now, or fails with ConfigError. ``take`` takes over what it can of that.
    ``tell`` is given the report when a reload begins, and when it is done.
    """

    _log = Logger()

    def __init__(
        self,
        read: Callable[[], Deferred[Config]],
        take: Callable[[Config], Changes],
        tell: Callable[[ReloadReport], None],
    ) -> None:
        self._read = read
        self._take = take
        self._tell = tell
        self._report = ReloadReport()
        self._is_wanted = False
        self._reloading: Deferred[None] | None = None

    def request(self) -> None:
        """Reload. Returns at once."""
        self._is_wanted = True
        if self._reloading is None:
            self._reloading = Deferred.fromCoroutine(self._reload_while_wanted())
            self._reloading.addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self._reloading = None
        if isinstance(result, Failure):
            self._log.failure("an error inside Perfd ended a reload", result)

    async def _reload_while_wanted(self) -> None:
        while self._is_wanted:
            self._is_wanted = False
            number = self._report.begun + 1
            self._report = attrs.evolve(self._report, begun=number)
            self._tell(self._report)
            self._report = ReloadReport(number, number)
            try:
                changes = await self._reload()
                self._report = attrs.evolve(self._report, changed=changes.changed, restart=changes.restart)
            except ConfigError as error:
                self._log.error("perfd.conf has mistakes, so all goes on as it was:")
                for problem in error.problems:
                    self._log.error("{problem}", problem=problem)
                self._report = attrs.evolve(self._report, problems=tuple(error.problems))
            except Exception as error:
                self._report = attrs.evolve(self._report, problems=(f"{type(error).__name__}: {error}",))
                raise
            finally:
                self._tell(self._report)

    async def _reload(self) -> Changes:
        changes = self._take(await self._read())
        self._log.info(
            "perfd.conf was reloaded: {changed}", changed="; ".join(changes.changed) or "nothing has changed"
        )
        if changes.restart:
            self._log.warn("this needs a restart: {restart}", restart="; ".join(changes.restart))
        return changes
