"""Files to clean, de-duplicated, split training text."""
