"""Secrets: looked up where they are used, and nowhere to be found afterwards."""
