"""From a request to words, against anything that scores next words."""
