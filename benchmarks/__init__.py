"""Programs that measure all the figures in the documentation."""
