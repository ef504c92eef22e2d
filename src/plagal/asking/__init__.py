"""From what a person types, sends or clicks to one request. Knows no web and no models."""
