"""The pipeline's seven stages: each reads its params, calls the library and writes its outputs."""

import os

STARTER = os.getppid()
"""Who started this process, DVC as a rule; read here, before the imports that take a second."""
