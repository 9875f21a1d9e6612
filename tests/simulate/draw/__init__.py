"""Drawing random workflows: a graph, and one feature after the other laid over it.

Each feature is a function of a Sketch that changes it; one that finds no place for itself leaves it as it is.
"""
