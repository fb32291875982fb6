"""Frozen networks that teach, with their weights on the devices, and what is written once with them."""
