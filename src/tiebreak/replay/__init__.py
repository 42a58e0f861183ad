"""The last steps of all environments, on the learner's device: one ring of arrays per runtime.

A ring is sampled at explicit indices, which are noise: five frameworks see the same batch. base.py
has what they share; each `<runtime>_replay.py` holds `create`, `add` and `sample`.
"""
