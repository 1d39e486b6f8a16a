"""Those who can break nodes: one module for each way in which a cluster may run."""
