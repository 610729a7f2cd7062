"""Serving: one thread that owns the models, the OpenAI images API, an API of jobs, and a page to watch pictures on."""
