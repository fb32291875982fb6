"""Evaluation of what is no depth map: disparity, masks, segmentation, motion."""
