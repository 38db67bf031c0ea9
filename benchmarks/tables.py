"""Writes the tables of README.md and docs/ from the cards in weights/ and the files in benchmarks/results/.

python benchmarks/tables.py            # write
python benchmarks/tables.py --check    # exit 1 where a page differs from what would be written
"""

import re
import sys
from pathlib import Path

import table_batch
import table_live
import table_networks
import table_speed
import table_training
from cyclopts import App, Parameter
from table_sources import ROOT

from rtseg.apps._console import run

app = App(help=__doc__, default_parameter=Parameter(negative=""))
TOPICS = ("anytime", "commands", "compression", "import", "networks", "own-data", "speed", "training", "video", "web")
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{topic}.md" for topic in TOPICS)]
TABLES = table_networks.TABLES | table_training.TABLES | table_speed.TABLES | table_batch.TABLES | table_live.TABLES


def fill(text: str) -> str:
    """The text with the content of every block from `<!-- table: NAME -->` to `<!-- end -->` regenerated."""

    def block(match: re.Match[str]) -> str:
        try:
            made = TABLES[match[1]]()
        except FileNotFoundError as missing:
            made = f"Not measured yet: `{Path(missing.filename).name}` is to come (benchmarks/PROTOCOL.md says how)."
        return f"<!-- table: {match[1]} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


@app.default
def main(*, check: bool = False) -> int:
    """Writes the tables.

    Args:
        check: Write nothing; exit with 1 where a page differs from what would be written.
    """
    code = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = fill(text)
        if not check:
            page.write_text(made, encoding="utf-8")
        elif made != text:
            print(f"{page.name} is not what its sources give: run python benchmarks/tables.py", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    run(app)
