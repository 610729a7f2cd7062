"""Bodies of the commands; they import torch where they need it."""
