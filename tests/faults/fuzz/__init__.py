"""What users may hand in, fuzzed: a target for each reader, a process that feeds it, and the corpora that are kept."""
