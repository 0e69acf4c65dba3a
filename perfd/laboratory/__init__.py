"""All that a measurement needs, put together from the configuration: our web server, the network and its tors."""

from perfd.laboratory.laboratory import Laboratory

__all__ = ["Laboratory"]
