"""Reports on data: copies, sizes, captions, files that cannot be used."""
