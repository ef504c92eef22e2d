"""Music to words and back. Knows no models."""
