"""Pure functions from scores and log-likelihoods to figures."""
