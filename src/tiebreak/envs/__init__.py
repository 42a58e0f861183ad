"""Environments: one file per engine, one meaning everywhere.

Host engines take and give NumPy; device engines are pure JAX; `bridge` shows a device engine to
any runtime. `terminated` and `truncated` are two things, and `final_obs` always survives a reset.
"""
