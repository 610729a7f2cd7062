"""Captions -> pictures: requests, starting points, guidance, receipts."""
