"""Honest numbers: frozen protocols, metrics, alignment, trivial baselines, reports."""
