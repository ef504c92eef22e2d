"""What a piece is: scores, chords, harmony, arrangements. Knows no words and no models."""
