"""The command line: `stabilize-nb`."""
