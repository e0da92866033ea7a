"""What may be tried: layouts, their spaces, their cost and their budgets. Imports no torch."""

from spaces.architecture import Architecture, Convolution, Words
from spaces.ats import Ats, AtsSpace
from spaces.attention_rank import AttentionRank, AttentionRankSpace
from spaces.base import PruningConfig, SearchSpace
from spaces.bat import Bat, BatSpace, BatStage
from spaces.budget import Budget, LatencyBudget
from spaces.cls_topk import CLSTopK, CLSTopKSpace, CLSTopKStage
from spaces.cost import BlockCost, Cost, StageCost, cost_of, dense_cost
from spaces.dense_head import DenseHead, HeadKind
from spaces.dtop import DToP
from spaces.dtop_space import DToPSpace
from spaces.errors import BudgetUnsatisfiable, InvalidInput, PrunefrontError, UnsupportedModel
from spaces.methods import METHODS, layout_document, parse_layout, parse_space, read_layout
from spaces.problem import Problem, Proposal
from spaces.random_drop import RandomDrop, RandomDropSpace
from spaces.tome import ToMe
from spaces.tome_space import ToMeSpace
from spaces.zero_tprune import ZeroTPrune, ZeroTPruneSpace, ZeroTPruneStage

__all__ = [
    "METHODS",
    "Architecture",
    "Ats",
    "AtsSpace",
    "AttentionRank",
    "AttentionRankSpace",
    "Bat",
    "BatSpace",
    "BatStage",
    "BlockCost",
    "Budget",
    "BudgetUnsatisfiable",
    "CLSTopK",
    "CLSTopKSpace",
    "CLSTopKStage",
    "Convolution",
    "Cost",
    "DToP",
    "DToPSpace",
    "DenseHead",
    "HeadKind",
    "InvalidInput",
    "LatencyBudget",
    "Problem",
    "Proposal",
    "PrunefrontError",
    "PruningConfig",
    "RandomDrop",
    "RandomDropSpace",
    "SearchSpace",
    "StageCost",
    "ToMe",
    "ToMeSpace",
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
