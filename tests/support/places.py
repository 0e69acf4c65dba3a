"""Where things are: this checkout, the tests' data, and the data that may be beside the checkout."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
DATA = CHECKOUT / "tests" / "data"
SHARED = CHECKOUT.parent / "shared" / "data"
