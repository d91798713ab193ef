"""Headframe: an open GPU cloud in one program."""

from headframe.report import log

__all__ = ["__version__", "log"]
__version__ = "0.1.0"
