"""
Live panes: what a cell shows of a run while it goes on, in widgets that come with Jupyter.

A pane is made by `showing`, painted by `painter.PAINTER`, and survives as the pictures of `afterlife`.
"""
