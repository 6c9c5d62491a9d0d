"""Statistics of gates: pure functions, each random one with its seed. Only this package may use numpy and
scipy, and imports them inside functions, so that what needs neither does not wait for them.

A difference is always a *gain*: ``sign * (candidate - baseline)``, sign +1 where higher is better, -1 where
lower is. A claim "gain > c" is shown where ``Interval.lower > c``, refuted where ``Interval.upper < c``.

``noise``: ``pool(groups) -> Noise | None``, the noise ledger of past replicated runs.
``bounds``: ``compare(candidate, baseline, ledger, alpha=, sign=, resolution=, bound=) -> Interval``, the
default test; ``compare_with_constant`` for thresholds; ``compare_paired`` over pairs of seeds;
``is_deterministic``.
``looks``: ``bound(looks, baseline_n, ledger_df, alpha) -> Bound`` for sequential looks, given to ``compare``.
``rows``: ``mcnemar``, ``mcnemar_of_rows``, ``paired_rows``, ``paired_bootstrap`` with ``f1`` and ``auc``,
``row_order`` to bring rows of two files into one order.
``holm``: ``holm(pvalues)`` adjusts p-values, as of ``Interval.p_below(c)``; ``holm_level`` for the bounds
shown.
``scale``: ``logarithms``, ``log_margin``, ``log_gain``, ``relative_change`` for what is compared by ratio.
``holdout``: ``alpha_of_use``, ``wear``, ``rows_for_value``, ``rows_for_difference``, ``is_below``.
``best``: ``rank_by_lower_bound(groups, ledger, sign=)``.
``drift``: ``change_points(history, seed=)``.
``planning``: ``power``, ``detectable``, ``replicates_needed``, ``rows_needed``, ``noether``,
``prediction_limit``.
"""
