"""One pure step, its optimiser, the loop round it and its health."""
