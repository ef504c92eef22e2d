"""Playing and score, both ways: a performer that plays a score as hands do, with its beats known, and a listener that
finds beats, bars and metre in notes that keep to no grid, and writes them down.

`hear` takes notes in seconds and gives a pulse and a regular score; `perform` does the reverse. Nothing here imports
MLX: the small net is trained elsewhere (`tools/train_tracker.py`) and runs on NumPy.
"""
