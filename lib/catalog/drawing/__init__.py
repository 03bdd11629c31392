"""Drawing of garments: plan, cloth, cut, scenes, all from seeds."""
