"""This release, in one place that everything may read: the façade stands on top, and nothing below imports it."""

__version__ = "0.1.0"
