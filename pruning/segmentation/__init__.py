"""Semantic segmentation with plain vision transformers: models with heads at several depths, and how they are run."""
