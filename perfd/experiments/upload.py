"""``type = upload``: send SIZE random bytes to our own server through a tor.

What this side hands to its socket fills buffers first, of this machine and of tor. When the payload was really
received is known to the server, so DATAPERCn and PARTIALn are its stamps here.
"""

from __future__ import annotations

import attrs

from perfd.client.upload import Upload, post_request, upload
from perfd.experiments.run import Extra, Record, Run, Setup
from perfd.experiments.transfer import Transfer
from perfd.record import EMPTY, Measurement, Outcome


class UploadRun(Run):
    """One upload. ``expect_continue``: the body waits until the server says that it wants it (100 Continue)."""

    def __init__(
        self,
        setup: Setup,
        slot: float | None,
        record: Record,
        extra: Extra = EMPTY,
        *,
        expect_continue: bool = False,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self._expect_continue = expect_continue
        if expect_continue:
            self.extra["EXPECT"] = 1

    @property
    def streams(self) -> int | None:
        return 1

    async def exchange(self) -> bool:
        self._transfer = transfer = Transfer(self.setup, self.id, self.user)
        size = self.setup.size
        self._upload = await upload(
            self.setup.reactor,
            transfer.begin(),
            post_request(
                transfer.authority,
                "/upload",
                size,
                transfer.request_headers,
                expect_continue=self._expect_continue,
            ),
            size=size,
            timeline=transfer.timeline,
            timeout=self.setup.timeout,
            expect_continue=self._expect_continue,
        )
        return transfer.end(self._upload).outcome is not Outcome.CANCELLED

    async def finish(self) -> None:
        found = await self._transfer.result(self.slot)
        found = attrs.evolve(found, extra={**self.extra, **found.extra, **sent(self._upload)})
        self.record(self._as_server_saw(found))

    def _as_server_saw(self, found: Measurement) -> Measurement:
        """With what the server saw of the body."""
        epoch = self._transfer.timeline.anchor.epoch
        served = self._transfer.served
        received = None if served is None else served.received
        if received is None:
            return attrs.evolve(found, payloadbytes=None if found.writebytes is None else 0)
        times = {"UPLOADFIRST": received.first, "UPLOADLAST": received.last}
        return attrs.evolve(
            found,
            dataperc={n: epoch(stamp) for n, stamp in received.dataperc.items()},
            partial={n: epoch(stamp) for n, stamp in received.partial.items()},
            payloadbytes=received.count,
            extra={
                **found.extra,
                "UPLOADBYTES": received.count,
                **{key: epoch(stamp) for key, stamp in times.items() if stamp is not None},
                **({} if received.digest is None else {"UPLOADDIGEST": received.digest}),
            },
        )


def sent(exchange: Upload) -> dict[str, str | int | float]:
    """What this side saw of the body, as keys of the record; what did not happen has none."""
    times = {
        "CONTINUE": exchange.continued,
        "SENTFIRST": exchange.sentfirst,
        **{f"SENTPERC{n}": stamp for n, stamp in exchange.sentperc.items() if n},
        "SENTLAST": exchange.sentlast,
    }
    return {key: stamp for key, stamp in times.items() if stamp is not None}
