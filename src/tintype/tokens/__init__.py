"""A model that writes pictures token by token: the other way to make them, to compare diffusion with."""
