"""The evaluation report as HTML."""
