"""TFDS builders that pack recordings into ArrayRecord, without TensorFlow."""
