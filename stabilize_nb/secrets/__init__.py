"""
Secrets: looked up where a body is called, and hidden wherever text leaves the process or is written.

Two lines. What was looked up is known, and is taken out of everything that is stored, logged or shown (`hiding`). What
nobody declared is guessed by how keys look (`patterns`), and only masked where it is shown or logged: a workflow
computes with what it was given.
"""
