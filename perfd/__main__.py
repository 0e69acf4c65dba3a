"""``python -m perfd`` is the ``perfd`` command."""

from perfd.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
