"""The keys of circuits over relays that were chosen, and of scans."""

from __future__ import annotations

LINES = """
CHOSENPATH texts - relays of the circuit that was to be built for the run, as $fingerprint
CHOSENTIMES floats s from the command to tor until each of them was there
CHOSENFAILED text - tor's word why the circuit was not built
SCANRELAY text - the relay that was measured, as $fingerprint
SCANNICKNAME text - its nickname
SCANPLACE text - its place in the circuit: guard, middle or exit
SCANPASS int - the number of the pass over all relays, from 1
SCANSEED int - the seed of the order of passes
SCANLEFT int - relays that the pass had still to measure
""".strip()
