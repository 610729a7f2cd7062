"""Captioned pictures in folders, archives, tables and lists -> pairs; no picture is opened."""
