"""Tests of `ml`: they need neither Django nor a database, and the gate runs them once."""
