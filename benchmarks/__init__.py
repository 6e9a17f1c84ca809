"""Programs that measure: every figure that the project states comes from one of them."""
