"""What a training step needs, found by compiling it for devices that need not be there."""
