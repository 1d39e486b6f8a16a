"""Named stories: what once went wrong in a real system, or must go right, told to a simulated cluster."""
