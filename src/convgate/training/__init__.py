"""How a stage of a recipe is trained: the Lightning module, losses, optimisers, callbacks."""
