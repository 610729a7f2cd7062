"""A finished model in other forms, for other people and programs."""
