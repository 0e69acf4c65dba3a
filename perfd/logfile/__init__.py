"""perfd.log: its lines (``line``), and the file with its rotation (``file``).

For programs that read perfd.log: ``parse`` gives back the measurement of a line, ``parse_file`` all those of a log.
"""

from perfd.logfile.line import DamagedLine, LogLineError, LogSink, parse, parse_file, render

__all__ = ["DamagedLine", "LogLineError", "LogSink", "parse", "parse_file", "render"]
