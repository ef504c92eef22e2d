"""A prompt in, playable music out."""
