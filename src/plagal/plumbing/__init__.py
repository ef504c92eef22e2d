"""Mechanisms under everything: errors, files, locks, DVC's cache, the terminal, params."""

__version__ = "0.2.0"
"""This release, in one place that everything may read: the façade stands on top, and nothing below imports it."""
