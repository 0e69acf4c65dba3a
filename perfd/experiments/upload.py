"""``type = upload``: send SIZE random bytes to our own server through a tor.

What this side hands to its socket fills buffers first, of this machine and of tor. When the payload was really
received is known to the server, so DATAPERCn and PARTIALn are its stamps here.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from perfd.client.upload import Upload, post_request, upload
from perfd.experiments.run import Extra, Run, Setup, Transfer
from perfd.record import EMPTY, Measurement


class UploadRun(Run):
    """One upload. ``expect_continue``: the body waits until the server says that it wants it (100 Continue)."""

    def __init__(
        self, setup: Setup, slot: float | None, extra: Extra = EMPTY, *, expect_continue: bool = False
    ) -> None:
        super().__init__(setup, slot, extra)
        self._expect_continue = expect_continue
        if expect_continue:
            self.extra["EXPECT"] = 1

    async def exchange(self) -> None:
        self._transfer = Transfer(self.setup, self.id, self.user)
        await self._transfer.perform(self._send)

    async def _send(self, endpoint: IStreamClientEndpoint) -> Upload:
        transfer, size = self._transfer, self.setup.size
        self._upload = await upload(
            self.setup.reactor,
            endpoint,
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
        return self._upload

    async def finish(self) -> Measurement:
        fields = await self._transfer.fields(self.slot)
        seen = self._seen()
        extra = {**self.extra, **fields["extra"], **sent(self._upload), **seen.pop("extra")}
        return Measurement(**fields | seen | {"extra": extra})

    def _seen(self) -> dict[str, Any]:
        """What the server saw of the body, as the arguments of ``Measurement``."""
        epoch = self._transfer.timeline.anchor.epoch
        served = self._transfer.served
        received = None if served is None else served.received
        if received is None:
            return {"payloadbytes": None if self._upload.writebytes is None else 0, "extra": {}}
        times = {"UPLOADFIRST": received.first, "UPLOADLAST": received.last}
        return {
            "dataperc": {n: epoch(stamp) for n, stamp in received.dataperc.items()},
            "partial": {n: epoch(stamp) for n, stamp in received.partial.items()},
            "payloadbytes": received.count,
            "extra": {
                "UPLOADBYTES": received.count,
                **{key: epoch(stamp) for key, stamp in times.items() if stamp is not None},
                **({} if received.digest is None else {"UPLOADDIGEST": received.digest}),
            },
        }


def sent(exchange: Upload) -> dict[str, str | int | float]:
    """What this side saw of the body, as keys of the record; what did not happen has none."""
    times = {
        "CONTINUE": exchange.continued,
        "SENTFIRST": exchange.sentfirst,
        **{f"SENTPERC{n}": stamp for n, stamp in exchange.sentperc.items() if n},
        "SENTLAST": exchange.sentlast,
    }
    return {key: stamp for key, stamp in times.items() if stamp is not None}
