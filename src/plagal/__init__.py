"""Plagal teaches a language model to play gospel piano."""
