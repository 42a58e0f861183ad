"""TensorFlow: networks, arithmetic, runtime and replay."""
