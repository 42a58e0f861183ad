"""The commands, one module each: `parser()` returns its parser, `run(args)` the exit status.

They are thin: the work is done in training, verify, bench, selftest and report.
"""
