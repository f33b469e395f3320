"""Measure every claim, draw every picture, fill the page: what `dyadprop relax --figures` does."""

from pathlib import Path

from tqdm import tqdm

from dyadprop.errors import RangeError
from dyadprop.optional import optional_packages
from dyadprop.report import Report
from dyadprop_sim.theorem.catalogue import CLAIMS
from dyadprop_sim.theorem.claim import Claim
from dyadprop_sim.theorem.page import rewrite


def measure_all(folder: Path, page: str | None, seed: int, report: Report) -> int:
    """Measure, draw, write; the command's exit code.

    Parameters
    ----------
    folder : Path
        For pictures.
    page : str or None
        Whose tables are written again.
    seed : int
        Of everything random.
    report : Report

    Raises
    ------
    RangeError
        If a file cannot be written.
    """
    with optional_packages("the pictures of the theorem"):
        from dyadprop_sim.theorem.pictures import ANIMATION, PICTURES, draw
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RangeError(f"folder {folder} cannot be made: {error.strerror}") from error
    claims: dict[str, Claim] = {}
    for name, measure in tqdm(CLAIMS.items(), unit="claim", disable=report.bar_disabled, leave=False):
        claims[name] = measure(seed)
        found = claims[name]
        report.say(f"{name}: {'holds' if found.holds else 'FAILS'}, {found.compared} comparisons")
        for failure in found.failures:
            report.result(f"{name}: {failure}")
    draw(folder, claims, seed)
    if page is not None:
        rewrite(page, claims)
    failed = [name for name, claim in claims.items() if not claim.holds]
    drawn = f"{len(PICTURES)} pictures and {ANIMATION} in {folder}"
    report.result(
        f"{len(claims) - len(failed)} of {len(claims)} claims hold; {drawn}" + (f"; {page}" if page is not None else "")
    )
    report.write(
        {
            "seed": seed,
            "claims": [
                {
                    "name": name,
                    "holds": claim.holds,
                    "compared": claim.compared,
                    "failures": claim.failures,
                    "columns": list(claim.columns),
                    "rows": [list(row) for row in claim.rows],
                    "data": claim.data,
                }
                for name, claim in claims.items()
            ],
        }
    )
    return 1 if failed else 0
