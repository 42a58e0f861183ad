"""Networks: one file per framework, the same classes in the same order.

Layers are the frameworks' own; weights always come from the canonical dictionary (core.weights).
"""
