"""ONNX models from a pack, without torch: bind, fold, lay out, write, check. Entry point: api.export_task."""
