from .predict.opening import load as load

__version__: str
