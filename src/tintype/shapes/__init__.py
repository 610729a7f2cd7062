"""The shapes world: scenes of colored shapes, their captions and pictures, and a program that judges pictures."""
