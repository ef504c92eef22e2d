"""What the benchmarks have in common. They run as scripts, so their folder is first on the path."""
