"""All files of a build's report."""

import logging
from pathlib import Path

from dyadprop.report import write_json
from dyadprop_boards.floorplan import read_floorplan
from dyadprop_boards.report_page import PAGES, write_pages
from dyadprop_boards.result import BuildResult

_log = logging.getLogger(__name__)

REPORT = "report.json"
UTILISATION = "utilisation.png"
FLOORPLAN = "floorplan.png"
FILES = (REPORT, *PAGES, UTILISATION, FLOORPLAN)


def write_report(result: BuildResult, folder: Path, work: Path) -> list[str]:
    """Write the report: JSON, Markdown, HTML, pictures; without matplotlib no pictures, and a warning.

    Parameters
    ----------
    result : BuildResult
    folder : path
        Gets the report.
    work : path
        Has the floorplans of placements.

    Returns
    -------
    list of str
        Names of the files.

    Raises
    ------
    RangeError
        If a file cannot be written.
    """
    write_json(folder / REPORT, result.document())
    pictures = _draw(result, folder, work)
    return [REPORT, *write_pages(result, folder, pictures), *(path.name for path in pictures)]


def _draw(result: BuildResult, folder: Path, work: Path) -> list[Path]:
    try:
        from dyadprop_boards.report_plots import floorplan_picture, utilisation_picture
    except ImportError as error:
        _log.warning("the report has no pictures: %s; pip install 'dyadprop[plot]' brings it", error)
        return []
    paths = [folder / UTILISATION]
    utilisation_picture(paths[0], result)
    best = result.best_placement
    tiles = read_floorplan(work / best.floorplan) if best is not None else []
    if best is not None and tiles:
        title = f"{'-'.join(map(str, result.widths))} on {result.device}, seed {best.seed}"
        paths.append(folder / FLOORPLAN)
        floorplan_picture(paths[-1], tiles, title, result.grid)
    return paths
