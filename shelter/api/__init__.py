"""The JSON API: a module per kind of object."""
