"""What a person sees: figures of what is remembered. Imports neither torch nor ``search``."""

from dashboard.figures import FrontData, draw_front, front_data, front_page, plot_front

__all__ = ["FrontData", "draw_front", "front_data", "front_page", "plot_front"]
