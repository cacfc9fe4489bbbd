"""Images: resampling, regions, decoding."""
