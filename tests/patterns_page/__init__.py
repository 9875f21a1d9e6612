"""docs/patterns.md: runs the code of the page and writes its pictures and results."""
