"""Write a trained policy as one file that other programs load without Tiebreak.

layers.py turns stored weights into a list of layers; each format has a file with `write` and `run`;
export.py writes, and compares what was written with the policy.
"""
