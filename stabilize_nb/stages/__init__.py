"""Builders: stages made from a description of what they are for."""
