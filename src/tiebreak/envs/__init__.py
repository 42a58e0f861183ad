"""Environments: one file per engine, one meaning everywhere.

Host engines take and return NumPy arrays; device engines are pure JAX; `bridge` lets any runtime
step a device engine. `terminated` and `truncated` are two things, and `final_obs` always survives
a reset.
"""
