"""The form `diffusers`: a model folder that Hugging Face's diffusers runs, with its own schedulers."""
