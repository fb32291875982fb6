"""Image operations: similarity, resizing, colour."""
