"""One process of a cluster: settings in, roles running, probes and metrics out."""
