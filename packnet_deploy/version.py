"""The version. Not in the package's door, which brings `load`: a file that asks only for this would bring it all."""

__version__ = "0.1.0"
