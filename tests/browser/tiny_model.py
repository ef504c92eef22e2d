"""Write an untrained model into the folder given: it plays noise, but grammatical noise, enough to test a page."""

import sys
from pathlib import Path

from plagal.model.base import make_embedded
from plagal.plumbing.params import EmbeddedShape

make_embedded(Path(sys.argv[1]), EmbeddedShape(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=48), 1)
