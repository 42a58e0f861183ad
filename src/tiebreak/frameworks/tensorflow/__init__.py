"""TensorFlow: networks, arithmetic, agent plumbing, runtime and replay."""
