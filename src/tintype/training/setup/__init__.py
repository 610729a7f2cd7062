"""From a request to everything a run needs: configuration, data, preset, plan."""
