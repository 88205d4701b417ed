"""What the architectures share: memories of gradients, features, cells, networks."""
