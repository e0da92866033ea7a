"""The families of models that can be pruned, one file each."""
