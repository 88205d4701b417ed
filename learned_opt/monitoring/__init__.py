"""What gradients, updates and parameters look like while a network is trained."""
