"""Copies that were altered: images evened out, turned, scaled and shifted, compared with training images."""
