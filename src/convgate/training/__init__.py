"""Train gated networks: recipes, the Lightning module, calibration to an exact budget."""
