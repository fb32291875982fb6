"""Cameras, rigid motions and view synthesis as pure functions."""
