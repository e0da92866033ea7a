"""What is measured of a layout, and on which images.

``metrics``, ``pareto``, ``statistics`` and ``shapes`` import no torch; ``storage`` and ``dashboard`` use only those.
"""
