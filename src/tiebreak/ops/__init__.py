"""Arithmetic that several algorithms share: one file per array library, same names, same order.

Functions of arrays only: no state, no device, no compilation.
"""
