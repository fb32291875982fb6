"""Evaluation under corruptions and under rendered weather."""
