"""Views of sampling steps: contact sheets, animations, the terminal."""
