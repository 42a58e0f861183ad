"""Loops: an agent meets an environment, from Python (host) or in one compiled program (fused).

Loops see agents, environments and runtimes through their contracts only.
"""
