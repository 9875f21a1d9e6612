"""The reference model: section 2 of patterns.md, told as simply as can be, without one line of the engine.

It is told what happens (an outcome reaches a join, a body ends, somebody cancels) and says what has to follow at once,
as tuples in `Case.said`; the monitor compares these with what the engine recorded. What happens when is the engine's
choice, so the model needs no clock and no queue: what an edge says stays in `flight` until the engine delivers it,
and at rest nothing may be in flight. Runs are named as their rows are: `s3`, `s3#2`.

`state` holds what there is; each other module is one part of section 2 as functions over a Case. `reactions.settle`
has to be called after each of them.
"""
