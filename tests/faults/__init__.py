"""Faults tried on purpose: each module's `rows` tries one kind and says what was promised and what happened."""
