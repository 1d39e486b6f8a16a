"""How a group's leader divides partitions among members: pure functions behind one small protocol."""
