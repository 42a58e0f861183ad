"""Other people's libraries as contestants of a race: a table, their environments, an adapter each.

table.py          the libraries that there is an adapter for, one row each
environments.py   makes, finds and removes the Python environment of each, below the user's cache
script.py         runs a training script by turns

The other files are adapters: each makes objects with the methods of bench/probes/contestants.py's
Contestant. They run in the library's own environment, and import nothing of this package but
`script`. No code of the libraries is in this package.
"""
