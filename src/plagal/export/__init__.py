"""What was learned, in other programs' formats. No stage imports this, so an edit here trains nothing anew."""
