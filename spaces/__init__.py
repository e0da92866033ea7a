"""What may be tried: layouts, their spaces, their cost and their budgets. Imports no torch."""

from spaces.architecture import Architecture, Convolution, Words
from spaces.base import PruningConfig, SearchSpace
from spaces.budget import Budget
from spaces.cost import BlockCost, Cost, StageCost, cost_of, dense_cost
from spaces.errors import BudgetUnsatisfiable, InvalidInput, PrunefrontError, UnsupportedModel
from spaces.methods import METHODS, layout_document, parse_layout, parse_space, read_layout
from spaces.problem import Problem, Proposal
from spaces.random_drop import RandomDrop, RandomDropSpace
from spaces.zero_tprune import ZeroTPrune, ZeroTPruneSpace, ZeroTPruneStage

__all__ = [
    "METHODS",
    "Architecture",
    "BlockCost",
    "Budget",
    "BudgetUnsatisfiable",
    "Convolution",
    "Cost",
    "InvalidInput",
    "Problem",
    "Proposal",
    "PrunefrontError",
    "PruningConfig",
    "RandomDrop",
    "RandomDropSpace",
    "SearchSpace",
    "StageCost",
    "UnsupportedModel",
    "Words",
    "ZeroTPrune",
    "ZeroTPruneSpace",
    "ZeroTPruneStage",
    "cost_of",
    "dense_cost",
    "layout_document",
    "parse_layout",
    "parse_space",
    "read_layout",
]
