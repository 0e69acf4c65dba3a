"""``python -m perfd`` is the ``perfd`` command."""

from perfd.cli.command import main

if __name__ == "__main__":
    raise SystemExit(main())
