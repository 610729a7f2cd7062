"""The HTTP API: the OpenAI images API, jobs, models and training runs."""
