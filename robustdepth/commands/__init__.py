"""The sub-commands of robustdepth.prepare: their arguments, and what they do."""
