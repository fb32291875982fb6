"""The procedural driving world: endless rendered street scenes with true depth, labels, motion and cameras."""
