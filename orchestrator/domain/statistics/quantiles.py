"""Quantiles and probabilities of the distributions that tests need, as plain floats.

The library behind them takes a quarter of a second to import. It is imported with the first question, so that
nothing waits for it which asks none: neither a plain threshold nor the command line's help.
"""

from __future__ import annotations

import math
from functools import lru_cache

MAX_KEPT = 4096
"""How many answers are kept in this process for each question."""


@lru_cache(MAX_KEPT)
def t_quantile(probability: float, df: float) -> float:
    """Student's t. ``df`` of infinity is the normal distribution."""
    if math.isinf(df):
        return normal_quantile(probability)
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def t_probability(value: float, df: float) -> float:
    """P(T <= value) for Student's t; ``df`` of infinity is the normal distribution."""
    if math.isinf(df):
        return normal_probability(value)
    from scipy.special import stdtr

    return float(stdtr(df, value))


@lru_cache(MAX_KEPT)
def f_quantile(probability: float, df1: float, df2: float) -> float:
    """Fisher's F."""
    from scipy.special import fdtri

    return float(fdtri(df1, df2, probability))


@lru_cache(MAX_KEPT)
def normal_quantile(probability: float) -> float:
    """The standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def normal_probability(value: float) -> float:
    """P(Z <= value) for the standard normal distribution."""
    return 0.5 * math.erfc(-value / math.sqrt(2))


def binomial_probability(most: int, trials: int, probability: float) -> float:
    """P(at most ``most`` successes in ``trials``)."""
    from scipy.special import bdtr

    return 1.0 if most >= trials else float(bdtr(most, trials, probability))


def t_power(df: float, shift: float, critical: float) -> float:
    """P(T > critical) where T is Student's t with ``df`` around ``shift``, in standard errors."""
    if math.isinf(df):
        return normal_probability(shift - critical)
    from scipy.special import nctdtr

    return 1.0 - float(nctdtr(df, shift, critical))
