"""Which photos, in what order, on what page, as what file."""
