"""Evaluation of consecutive frames: temporal consistency."""
