"""Before a run of days: what it will need on this machine, found out in minutes by doing a little of it.

No stage imports this, so an edit here trains nothing anew.
"""
