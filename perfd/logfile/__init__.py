"""perfd.log: its lines (``line``), and the file with its rotation (``file``).

For programs that read perfd.log, ``perfd.logfile.parse`` gives back the measurement of a line.
"""

from perfd.logfile.line import LogLineError, parse

__all__ = ["LogLineError", "parse"]
