"""What clients did and saw, and whether it keeps the promises."""
