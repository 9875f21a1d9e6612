"""Agents of other libraries as bodies of stages, with their calls of models and tools as durable steps.

One module for each library, which is imported by its name, such as `stabilize_nb.agents.pydantic_ai`.
"""
