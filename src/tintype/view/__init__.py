"""Sampling steps to look at: contact sheets, animations, the terminal."""
