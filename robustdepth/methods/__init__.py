"""One file per idea of the papers; objective.py composes them."""
