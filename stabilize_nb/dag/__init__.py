"""Rules over the graph of stages, without any state of their own."""
