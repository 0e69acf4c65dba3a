"""How often does something happen? An exact interval for a share of independent trials."""

from __future__ import annotations

from perfd.analysis.quantiles import beta_distribution


def exact_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, which holds at least as often as it says, however few the
    trials.

    Its ends are the quantile (1 - confidence) / 2 of Beta(x, n - x + 1), and that of 1 less it of
    Beta(x + 1, n - x), for x successes in n trials: "The use of confidence or fiducial limits", Biometrika 26
    (1934). Raises ValueError if there are more successes than trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} trials is no share")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _beta_quantile(successes, trials - successes + 1, tail)
    high = 1.0 if successes == trials else _beta_quantile(successes + 1, trials - successes, 1 - tail)
    return low, high


def _beta_quantile(a: float, b: float, p: float) -> float:
    low, high = 0.0, 1.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        if beta_distribution(a, b, middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2
