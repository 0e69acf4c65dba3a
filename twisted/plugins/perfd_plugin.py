"""Makes ``twistd perfd`` known; the service is made in ``perfd.service``."""

from twisted.application.service import ServiceMaker

perfd = ServiceMaker(
    "Perfd", "perfd.service", "Measures the performance of Tor: fetches random bytes back from itself.", "perfd"
)
