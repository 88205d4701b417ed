"""Training a controller of hyperparameters by PPO: environments, reward, update and learner."""
