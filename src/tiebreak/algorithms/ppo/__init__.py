"""Proximal policy optimization; README.md is the spec. Nothing is imported here on purpose."""
