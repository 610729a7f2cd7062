"""Measurements and logs while a run trains."""
