"""What is to be done to a cluster: the scenario file, its steps in time, its targets."""
