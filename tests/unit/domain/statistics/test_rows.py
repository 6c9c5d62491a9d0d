"""Candidate against baseline by predictions on the same rows."""

import math
import time

import numpy as np
import pytest
from scipy import stats

from orchestrator.domain.statistics.bounds import Method
from orchestrator.domain.statistics.rows import (
    auc,
    f1,
    mcnemar,
    mcnemar_of_rows,
    paired_bootstrap,
    paired_rows,
    row_order,
)
from tests.support.gate_trials import Floats, digits


def test_mcnemar_as_mlxtend_and_statsmodels_have_it() -> None:
    test = mcnemar(lost=59, gained=121, rows=101 + 121 + 59 + 33)
    assert test.chi_square() == pytest.approx(20.672222, abs=1e-6)
    assert stats.chi2.sf(test.chi_square(), 1) == pytest.approx(5.4501e-6, rel=1e-4)
    assert test.chi_square(corrected=False) == pytest.approx(21.355556, abs=1e-6)
    assert test.p_changed == pytest.approx(4.43445e-6, rel=1e-5)
    assert test.p_better == pytest.approx(test.p_changed / 2)
    assert test.estimate == pytest.approx(62 / 314)


def test_one_sided_mcnemar_is_the_binomial_test() -> None:
    test = mcnemar(lost=9, gained=2, rows=100)
    assert test.p_worse == pytest.approx(stats.binomtest(2, 11, alternative="less").pvalue)
    assert test.p_better == pytest.approx(stats.binomtest(2, 11, alternative="greater").pvalue)


def test_models_that_are_right_on_the_same_rows_do_not_differ() -> None:
    test = mcnemar_of_rows([True, False, True], [True, False, True])
    assert (test.lost, test.gained, test.p_worse, test.p_better, test.p_changed) == (0, 0, 1, 1, 1)
    assert test.chi_square() == 0


def test_rows_lost_and_gained_are_counted() -> None:
    test = mcnemar_of_rows([True, False, False, True], [False, True, True, True])
    assert (test.lost, test.gained, test.rows) == (2, 1, 4)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        mcnemar(*counts)


def test_rows_of_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows against 1"):
        mcnemar_of_rows([True, True], [True])
    with pytest.raises(ValueError, match="2 rows against 3"):
        paired_rows([[1, 0]], [[1, 0, 1]])
    with pytest.raises(ValueError, match="2 labels"):
        paired_bootstrap(f1, [1, 0], [[1, 0, 1]], [[1, 0, 1]], seed=1)


def test_rows_are_brought_into_one_order_by_their_ids() -> None:
    candidate, baseline = ["c", "a", "b"], ["a", "b", "c"]
    order = row_order(candidate, baseline)
    assert order is not None
    assert [candidate[index] for index in order] == baseline


@pytest.mark.parametrize(
    "candidate", [["a", "b"], ["a", "b", "d"], ["a", "b", "b"], ["a", "b", "c", "c"], ["a", "b", "c", "d"]]
)
def test_other_or_repeated_row_ids_are_never_compared(candidate: list[str]) -> None:
    assert row_order(candidate, ["a", "b", "c"]) is None
    assert row_order(["a", "b", "c"], candidate) is None


def test_one_run_each_is_a_paired_z_interval_over_rows() -> None:
    mine, theirs = digits()["reg_a"][0].astype(float), digits()["base"][0].astype(float)
    interval = paired_rows([mine.tolist()], [theirs.tolist()])
    differences = mine - theirs
    assert interval.method is Method.ROWS
    assert interval.estimate == pytest.approx(differences.mean())
    assert interval.se == pytest.approx(differences.std(ddof=1) / math.sqrt(899))
    assert interval.upper == pytest.approx(interval.estimate + 1.6448536 * interval.se)
    assert interval.sd == 0


def test_several_runs_add_what_seeds_change_beyond_single_rows() -> None:
    random = np.random.default_rng(2)
    # A seed that moves every row alike is invisible to the rows' own variance.
    mine, theirs = (
        random.normal(size=(1, 400)) + random.normal(size=(4, 1)) + 0.01 * random.normal(size=(4, 400))
        for _ in range(2)
    )
    interval = paired_rows(mine.tolist(), theirs.tolist())
    seeds = (mine.mean(axis=1).var(ddof=1) + theirs.mean(axis=1).var(ddof=1)) / 2
    assert interval.sd == pytest.approx(math.sqrt(seeds), rel=0.01)
    rows = (mine.mean(axis=0) - theirs.mean(axis=0)).var(ddof=1) / 400
    assert interval.se == pytest.approx(math.sqrt(rows + seeds / 2), rel=0.01)


def test_what_few_seeds_tell_is_not_taken_for_certain() -> None:
    random = np.random.default_rng(6)

    def runs(moved: float) -> list[list[float]]:
        made = random.normal(size=(3, 400)) + moved * random.normal(size=(3, 1))
        return [[float(score) for score in run] for run in made]

    by_rows, by_seeds = paired_rows(runs(0), runs(0)), paired_rows(runs(5), runs(5))
    assert by_seeds.df == pytest.approx(4, abs=0.1)
    assert by_seeds.critical == pytest.approx(stats.t.ppf(0.95, 4), abs=0.01)
    assert by_rows.df > by_seeds.df
    assert by_seeds.p_below(by_seeds.upper) == pytest.approx(0.05)


def test_losses_of_rows_are_gains_where_lower_is_better() -> None:
    interval = paired_rows([[0.1, 0.2, 0.3]], [[1.1, 1.3, 1.2]], sign=-1)
    assert interval.estimate == pytest.approx(1.0)
    assert interval.lower > 0.9


def test_rows_without_any_difference_show_no_more_than_three_in_as_many() -> None:
    right = [1.0] * 300
    interval = paired_rows([right], [right])
    assert interval.estimate == 0
    assert interval.lower == pytest.approx(math.log(0.05) / 300)


def test_equal_scores_that_are_no_right_or_wrong_are_deterministic() -> None:
    assert paired_rows([[0.5, 0.7]], [[0.5, 0.7]]).method is Method.DETERMINISTIC


def test_rows_that_all_moved_alike_show_no_more_than_as_many_without_an_exception() -> None:
    alone = paired_rows([[0.2]], [[0.9]], sign=-1)
    assert alone.lower < 0 < alone.estimate
    alike = paired_rows([[0.2, 0.5, 0.6] * 20], [[0.9, 1.2, 1.3] * 20], sign=-1)
    assert alike.method is Method.ROWS
    assert alike.lower == pytest.approx(0.7 * (1 + math.log(0.05) / 60))


def test_a_bootstrap_without_any_spread_is_no_certainty() -> None:
    labels = [1.0, 0.0] * 10
    right, wrong = labels, [1 - label for label in labels]
    interval = paired_bootstrap(auc, labels, [right], [wrong], seed=1)
    assert (interval.estimate, interval.method) == (1, Method.BOOTSTRAP)
    assert interval.lower == pytest.approx(1 + math.log(0.05) / 20)
    assert paired_bootstrap(auc, labels, [right], [right], seed=1).method is Method.DETERMINISTIC


@pytest.mark.parametrize("runs", [[], [[]], [[1.0, math.nan]], [[1.0, 0.0], [1.0]]])
def test_runs_without_the_same_finite_scores_are_refused(runs: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        paired_rows(runs, [[1.0, 0.0]])


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    random = np.random.default_rng(3)
    labels = (random.random(200) < 0.4).astype(float)
    scores = np.round(labels + random.normal(size=200), 1)
    known = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    pairs = (labels == 1).sum() * (labels == 0).sum()
    assert auc(labels, scores, np.ones((1, 200)))[0] == pytest.approx(known / pairs)


def test_weights_count_rows_as_often() -> None:
    labels, scores = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.4, 0.1])
    weights = np.array([[2.0, 1.0, 0.0, 3.0], [1.0, 2.0, 1.0, 0.0]])
    for metric, predictions in ((auc, scores), (f1, (scores > 0.45).astype(float))):
        weighted = metric(labels, predictions, weights)
        for row, value in zip(weights.astype(int), weighted, strict=True):
            repeated = np.repeat(np.arange(4), row)
            plain = metric(labels[repeated], predictions[repeated], np.ones((1, repeated.size)))
            assert value == pytest.approx(plain[0])


def test_f1_as_known_and_not_defined_without_positives() -> None:
    whole = np.ones((1, 5))
    found = f1(np.array([1.0, 1, 1, 0, 0]), np.array([1.0, 1, 0, 1, 0]), whole)
    assert found[0] == pytest.approx(2 / 3)
    assert math.isnan(f1(np.zeros(5), np.zeros(5), whole)[0])
    assert math.isnan(auc(np.ones(5), np.arange(5.0), whole)[0])


def accuracy(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ (labels == predictions) / weights.sum(axis=1))


def test_the_bootstrap_of_a_mean_over_rows_is_the_interval_of_paired_rows() -> None:
    rows = digits()
    mine, theirs = rows["reg_a"][:3].astype(float), rows["base"][:8].astype(float)
    labels = np.ones(899)
    drawn = paired_bootstrap(accuracy, labels.tolist(), mine.tolist(), theirs.tolist(), seed=5)
    known = paired_rows(mine.tolist(), theirs.tolist())
    assert drawn.method is Method.BOOTSTRAP
    assert drawn.estimate == pytest.approx(known.estimate)
    assert drawn.se == pytest.approx(known.se, rel=0.1)
    assert drawn.sd == pytest.approx(known.sd, rel=0.3)


def test_a_bootstrap_is_the_same_for_the_same_seed() -> None:
    labels, mine, theirs = [1, 0, 1, 1, 0, 1] * 5, [[1, 0, 0, 1, 0, 1] * 5], [[1, 1, 1, 1, 0, 0] * 5]
    first = paired_bootstrap(f1, labels, mine, theirs, seed=7)
    assert first == paired_bootstrap(f1, labels, mine, theirs, seed=7)
    assert first != paired_bootstrap(f1, labels, mine, theirs, seed=8)


def test_a_metric_that_is_not_defined_on_the_rows_is_told() -> None:
    with pytest.raises(ValueError, match="are all labels the same"):
        paired_bootstrap(auc, [1, 1, 1], [[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]], seed=1)


def test_very_many_rows_are_resampled_in_part_and_in_time() -> None:
    random = np.random.default_rng(4)
    labels = (random.random(400_000) < 0.5).astype(float)
    runs = [(labels + random.normal(size=400_000))[None, :] for _ in range(2)]
    begin = time.process_time()
    interval = paired_bootstrap(auc, labels, *runs, seed=1)  # type: ignore[arg-type]  # arrays do as well
    assert time.process_time() - begin < 6
    few = [run[:, :20_000] for run in runs]
    known = paired_bootstrap(auc, labels[:20_000], *few, seed=1)  # type: ignore[arg-type]
    assert interval.se == pytest.approx(known.se / math.sqrt(20), rel=0.15)
