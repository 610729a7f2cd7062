"""The API of A1111's web UI, for clients that speak nothing else: a thin layer over the dispatcher, off by default."""
