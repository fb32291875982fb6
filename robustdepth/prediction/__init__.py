"""Depth maps of the user's own images, folders and videos, as arrays, pictures and point clouds."""
