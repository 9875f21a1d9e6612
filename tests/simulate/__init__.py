"""The simulator: random workflows, worked at in random order with faults, against a small reference model."""
