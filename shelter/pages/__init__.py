"""The HTML pages: a module per page or kind of page."""
