"""Several models under every protocol that the data at hand allow, side by side."""
