"""The command line: `main.py` is the entry point, one further file per command."""
