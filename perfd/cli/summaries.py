"""``perfd summarize``: bring the hourly summaries up to date, or make them anew."""

from __future__ import annotations

import time

from perfd.cli.output import say
from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.store.database import database_path
from perfd.summaries.kept import rebuild, summarize


def summarize_hours(config: Config, *, anew: bool) -> int:
    """Summarize the hours that are stale, or with ``anew`` all of them. Raises StoreError and sqlite3.Error."""
    path = database_path(config.database, config.directory)
    told = 0
    with Progress("summarizing", 2.0) as progress:

        def tell(done: int, count: int) -> None:
            nonlocal told
            told = done
            progress.update(f"hour {done:,} of {count:,}", done, count)

        if anew:
            rebuild(path, time.time(), tell)
        else:
            summarize(path, time.time(), tell=tell)
    say(f"{told:,} hours were summarized")
    return 0
