"""Make the documentation site: collect Markdown, add what is drawn from the source, render, check.

`make docs` runs `python -m website` in docs/. Decision 0051 says why it is built this way.
"""
