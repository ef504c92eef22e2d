"""Mechanisms under everything: errors, files, locks, DVC's cache, the terminal, params."""
