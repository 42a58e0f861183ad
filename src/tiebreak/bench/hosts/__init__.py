"""Run one suite on several hosts, a manager each, and put results folders together."""
