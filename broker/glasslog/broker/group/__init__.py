"""The group coordinator: who is in a consumer group, who reads which partition, and how far each has come."""
