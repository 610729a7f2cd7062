"""Bytes of a picture -> pixels at a training shape, with the facts known of it."""
