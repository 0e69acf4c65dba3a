"""The keys that tell what the network was like: its consensus and the relays of a path, for the dictionary."""

from __future__ import annotations

LINES = """
PATHVERSIONS texts - their versions of tor, by the consensus
PATHCOUNTRIES texts - their countries, by tor's GeoIP
PATHCGO texts - 1 for those that can Counter Galois Onion (Relay=6), 0 for those that cannot
CONSENSUS time - valid-after of the consensus that tor had at the end of the run
CONSENSUSPARAMS text - a digest of its parameters for congestion control, Conflux, KIST and build timeouts
GUARDLAYERS texts - of circuits to onion services: the layer of guards that each relay of path is in, if any
HSPOWEFFORT int - the effort of the proof of work for the onion service
""".strip()
"""The lines of the data dictionary for all of them."""
