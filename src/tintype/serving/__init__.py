"""Serving: the engine, the OpenAI images API, the jobs API, and the web page."""
