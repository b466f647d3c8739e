"""TensorRT and TensorRT-RTX: one plan that any task of a pack can be switched to, its sidecar, and running it."""
