"""Measurements: each prints one table and can write it as JSON for docs/results."""
