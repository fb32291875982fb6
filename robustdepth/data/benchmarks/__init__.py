"""Public evaluation datasets: one module each, listed in datasets.py."""
