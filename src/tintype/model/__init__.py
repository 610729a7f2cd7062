"""Networks, codecs and checkpoints: a denoiser, and the files it is kept in."""
