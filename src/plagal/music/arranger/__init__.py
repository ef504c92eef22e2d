"""Tune and style to score, by rule: harmony, hands, the tune book."""
