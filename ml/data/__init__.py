"""From photos to datasets."""
