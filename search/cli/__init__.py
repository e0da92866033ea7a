"""The ``prunefront`` command: one file a verb, or a few verbs that belong together."""
