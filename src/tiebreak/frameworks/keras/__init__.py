"""Keras 3: arithmetic, networks and agents over whichever backend it computes with."""
