"""A drawn world of colored shapes: scenes, captions, pictures, and a program that judges pictures."""
