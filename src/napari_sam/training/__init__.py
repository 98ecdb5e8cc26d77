"""Training of networks: data, augmentation, prompts, losses and the loop."""
