"""What a model is worth: errors on frames it has not seen, dynamics, and the sampling itself."""
