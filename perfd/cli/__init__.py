"""The commands: ``perfd`` is ``perfd.cli.command.command:main``."""
