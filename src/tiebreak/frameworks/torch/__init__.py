"""PyTorch: networks, arithmetic, runtime and replay."""
