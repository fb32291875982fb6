"""What weather, darkness, motion and a dirty lens do to an image, and the corruptions of the benchmark."""
