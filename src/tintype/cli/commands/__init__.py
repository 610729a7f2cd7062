"""What each command takes and what it starts, a file per command. Imports no torch before a command runs."""
