"""Figures and reports about a classifier."""
