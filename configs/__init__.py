"""One file per experiment; base.py holds every option with its default."""
