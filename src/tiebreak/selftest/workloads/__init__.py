"""Workloads that the self-test measures."""
