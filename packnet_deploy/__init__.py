"""PackNet: many tasks in one network, from training to the engine."""

__version__ = "0.1.0"
