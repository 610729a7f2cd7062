"""HTTP: the OpenAI images API, jobs, models and runs."""
