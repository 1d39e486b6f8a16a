"""A partition's replica on this broker: ISR, high watermark, fetch sessions, waiting requests."""
