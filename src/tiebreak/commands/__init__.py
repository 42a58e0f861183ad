"""The commands, one file each: `parser()` says what it takes, `run(args)` returns the status.

They are thin: what a command does lives in training, verify, bench and report.
"""
