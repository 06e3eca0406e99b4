"""Several relays that are one, through Redis (docs/cluster.md). Loaded only when ``RelayConfig.cluster`` is set."""
