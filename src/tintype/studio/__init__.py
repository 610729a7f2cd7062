"""The studio: data, captions, plans and training runs from a page, on this machine only."""
