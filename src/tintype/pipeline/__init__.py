"""Captions to pictures: requests, init images, the start of sampling, guidance, inversion, receipts, picture files."""
