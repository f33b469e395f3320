"""Where place and route put each part of the chip."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

from dyadprop.errors import BuildError
from dyadprop_boards.netlist import part_of

Block = Literal["logic", "multipliers", "block_rams"]


class Tile(NamedTuple):
    """Cells of one part in one place of the FPGA."""

    part: str
    block: Block
    x: int
    y: int
    cells: int


_PLACE = re.compile(r"X(\d+)/?Y(\d+)/")
# First letters of the cells' types, as place and route calls them.
_BLOCKS: tuple[tuple[str, Block], ...] = (
    ("TRELLIS_COMB", "logic"),
    ("TRELLIS_FF", "logic"),
    ("TRELLIS_RAMW", "logic"),
    ("ICESTORM_LC", "logic"),
    ("LUT", "logic"),
    ("DFF", "logic"),
    ("ALU", "logic"),
    ("RAM16", "logic"),
    ("MULT", "multipliers"),
    ("ICESTORM_DSP", "multipliers"),
    ("DP16KD", "block_rams"),
    ("ICESTORM_RAM", "block_rams"),
    ("SP", "block_rams"),
    ("SDP", "block_rams"),
    ("DP", "block_rams"),
    ("pROM", "block_rams"),
)


def keep_floorplan(placed: Path, floorplan: Path, *, wanted: bool = False) -> None:
    """Keep of a placed netlist, which is large, only where its parts are; the netlist goes, unless it is wanted.

    Place and route that found no placement writes none: then nothing is anywhere.
    """
    tiles: list[Tile] = []
    if placed.is_file():
        tiles = read_placed(placed.read_text(), str(placed))
        if not wanted:
            placed.unlink()
    floorplan.write_text(json.dumps(tiles, separators=(",", ":")))


def read_placed(text: str, where: str) -> list[Tile]:
    """Read the netlist that nextpnr writes behind placement.

    Parameters
    ----------
    text : str
        JSON.
    where : str
        How messages call the file.

    Raises
    ------
    BuildError
        If it is no such netlist.
    """
    count: Counter[tuple[str, Block, int, int]] = Counter()
    try:
        for module in json.loads(text)["modules"].values():
            for name, cell in module["cells"].items():
                place = _PLACE.match(str(cell["attributes"].get("NEXTPNR_BEL", "")))
                block = next((block for start, block in _BLOCKS if cell["type"].startswith(start)), None)
                if place is not None and block is not None:
                    count[part_of(name).name, block, int(place[1]), int(place[2])] += 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"places of cells are not in {where}: {error!r}") from error
    return [Tile(*key, cells) for key, cells in sorted(count.items())]


def read_floorplan(path: Path) -> list[Tile]:
    """Read what `keep_floorplan` has kept."""
    return [Tile(*entry) for entry in json.loads(path.read_text())]


def parts_in_order(names: set[str]) -> list[str]:
    """Put parts into the order in which reports show them: stages, head, link, board."""
    order: defaultdict[str, int] = defaultdict(int, {"head": 1, "link": 2, "board": 3})
    return sorted(names, key=lambda name: (order[name], len(name), name))
