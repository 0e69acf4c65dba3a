"""Perfd as an application file: ``twistd -ny perfd.tac`` does what ``twistd -n perfd`` does.

The configuration is the perfd.conf beside this file.
"""

from pathlib import Path

from perfd.service import make_application

application = make_application(Path(__file__).absolute().parent / "perfd.conf")
