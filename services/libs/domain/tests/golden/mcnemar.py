"""Writes mcnemar.json: counts of discordant images and what statsmodels says of them.

    python3 -m venv venv && venv/bin/pip install statsmodels==0.15.0 scipy==1.17.1
    venv/bin/python services/libs/domain/tests/golden/mcnemar.py

Equal counts from 25 discordant images on are left out: there statsmodels squares a corrected difference of minus one, where Perito
says that equal counts are no evidence.
"""

import json
import pathlib

from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

EXACT_BELOW = 25
SMALL = [(0, 1), (1, 0), (0, 5), (5, 0), (1, 1), (2, 2), (3, 4), (6, 2), (2, 6), (9, 1), (0, 24), (24, 0), (12, 12), (11, 13), (13, 11),
         (7, 17), (17, 7), (10, 14), (4, 20), (1, 8), (8, 1), (3, 3), (23, 1), (5, 9)]
LARGE = [(0, 25), (25, 0), (12, 13), (13, 12), (10, 15), (15, 10), (20, 40), (40, 20), (59, 60), (60, 62), (100, 80), (33, 21), (21, 33),
         (121, 59), (59, 121), (500, 450), (1000, 1100), (7, 90), (90, 7), (3, 30), (12000, 12345), (1, 300), (250, 251), (400, 1)]


def case(champion, challenger):
    exact = champion + challenger < EXACT_BELOW
    # The concordant counts take no part.
    said = mcnemar([[60, champion], [challenger, 9]], exact=exact, correction=True)
    other = (stats.binomtest(min(champion, challenger), champion + challenger, 0.5).pvalue if exact
             else stats.chi2.sf(said.statistic, 1))
    assert abs(said.pvalue - other) <= 1e-9 * other, (champion, challenger, said.pvalue, other)
    return {"champion": champion, "challenger": challenger, "test": "exact-binomial" if exact else "chi-square",
            "statistic": float(said.statistic), "p_value": float(said.pvalue)}


cases = [case(*counts) for counts in SMALL + LARGE]
text = json.dumps(cases).replace('{"champion"', '\n{"champion"') + "\n"
pathlib.Path(__file__).with_name("mcnemar.json").write_text(text)
