"""Which relays of a circuit to an onion service are guards, in which layer (vanguards-spec).

The first relay is tor's guard. The second is one of a few that tor keeps for a while if ``HSLayer2Nodes`` says
which, or by vanguards-lite, which is on unless ``VanguardsLiteEnabled`` is 0; the third likewise with
``HSLayer3Nodes``.
"""

from __future__ import annotations

from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from txtorcon import TorControlProtocol

ANSWER_WAIT = 2.0

LAYER_2, LAYER_3, LITE = "HSLayer2Nodes", "HSLayer3Nodes", "VanguardsLiteEnabled"


async def guard_layers(protocol: TorControlProtocol, reactor: IReactorTime) -> int | None:
    """How many layers there are; None if tor does not tell. Never raises but when it is cancelled."""
    try:
        text = await protocol.get_conf_raw(LAYER_2, LAYER_3, LITE).addTimeout(ANSWER_WAIT, reactor)
    except (DeferredTimeoutError, RuntimeError):  # txtorcon's own errors are RuntimeErrors
        return None
    return layers_in(text)


def layers_in(text: str) -> int | None:
    """The same, of tor's answer to GETCONF."""
    options = dict(line.strip().partition("=")[::2] for line in text.splitlines())
    if not {LAYER_2, LAYER_3} <= set(options):
        return None
    if options[LAYER_3]:
        return 3
    return 2 if options[LAYER_2] or options.get(LITE, "0") != "0" else 1


def layer_keys(hops: int, layers: int | None) -> dict[str, str]:
    """The key of a record: the layer of each relay of the path, empty for those in none."""
    if layers is None or not hops:
        return {}
    # The last one is the rendezvous point, whatever else it is.
    return {"GUARDLAYERS": ",".join(str(n) if n <= layers and n < max(2, hops) else "" for n in range(1, hops + 1))}
