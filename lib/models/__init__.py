"""Models: attention mechanisms, blocks, JetViT and the baselines it has to beat."""
