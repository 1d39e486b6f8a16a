"""One run of a scenario: clients that record, faults that are always healed, the verdict."""
