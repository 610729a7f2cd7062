"""Imports: a model that someone has exported, back as a model folder. Nothing in it is run."""
