"""Tasks: the code that stages run."""
