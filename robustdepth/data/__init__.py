"""Recordings and rendered worlds: from files on disk to batches whose order is a pure function of (seed, step)."""
