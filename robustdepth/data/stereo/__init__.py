"""Stereo pairs, semi-global matching, and the disparities kept beside recordings."""
