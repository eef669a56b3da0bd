"""LRDKT reproduced: the sizes and multiply-adds of its published ranks, and its head of one layer behind a mean.

    python tools/lrdkt.py numbers --out lrdkt --docs docs
    python tools/lrdkt.py numbers --only 'alexnet*' --head gap
    python tools/lrdkt.py beside ASSETS --docs docs
    python tools/lrdkt.py write IN.onnx OUT.onnx --head gap --samples images.npy

`numbers` makes VGG-16 and AlexNet with random weights, a plan of the published ranks, and the file that the plan says,
and counts what is in the file. It takes ten to thirty minutes and 1 GB of disk; files and plans stay in --out, where it
is given. --head tells which configurations. `beside` measures its decomposition and ours on a trained VGG, convolutions
only, at the same multiply-adds. --docs puts a table into its place in DIR/lrdkt.md. `write` replaces the fully
connected layers of a model by the mean of its last feature map and one layer: fitted to the logits of the model on
--samples, or random. That is the size and the graph; the model is to be tuned before it is of use.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from lrdkt_beside import beside
from lrdkt_beside import table as beside_table
from lrdkt_count import Counts, count
from lrdkt_head import with_pooled_head
from lrdkt_nets import PUBLISHED, Published, build
from lrdkt_plan import forms_of, plan
from onnx import ModelProto
from pages import Part

import onnx_dalr

HEADS = ("fc", "gap")
PAGE = "lrdkt.md"
_TITLES = {"vgg16": "VGG-16", "alexnet": "AlexNet, one column"}
_HEADS = {"fc": "fc6–fc8 at their ranks", "gap": "mean and one layer"}


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        published: What it is, and is to be.
        before: Counts of the network as it was.
        after: Counts of the file that was written.
        bytes: Of the file.
    """

    published: Published
    before: Counts
    after: Counts
    bytes: int

    @property
    def found(self) -> tuple[str, str]:
        """Millions of weights and 10⁹ multiply-adds, to the digits of the published numbers."""
        return shown(self.after)

    @property
    def agrees(self) -> bool:
        """To the last of these digits."""
        return self.found == (self.published.weights, self.published.macs)


def shown(counts: Counts) -> tuple[str, str]:
    """Millions of weights to two places and 10⁹ multiply-adds to three."""
    return f"{counts.weights / 1e6:.2f}", f"{counts.macs / 1e9:.3f}"


def source_of(published: Published, *, valued: bool = True, side: int = 224, width: int = 1) -> ModelProto:
    """The network that a configuration is made from: with its own head, which is not decomposed if it is the mean's."""
    model = build(published.network, valued=valued, side=side, width=width)
    return with_pooled_head(model) if published.head == "gap" else model


def reproduce(published: Published, folder: Path) -> Row:
    """Makes the network, the plan and the file of one configuration in a folder, and counts."""
    source, planned, out = (folder / f"{published}{end}" for end in (".source.onnx", ".plan.json", ".onnx"))
    model = source_of(published)
    onnx.save(model, source)
    made = plan(model, forms_of(model, published.kept))
    made.save(planned)
    images = np.random.default_rng(1).standard_normal((4, 3, 224, 224), np.float32)
    onnx_dalr.apply(source, made, out, calib=images, task="regress", force=True)
    source.unlink()
    before = count(build(published.network, valued=False))
    return Row(published, before, count(onnx.load(out)), out.stat().st_size)


def table(rows: list[Row]) -> Iterator[str]:
    """Published against found, as Markdown."""
    yield "| network | Σσ² kept | head | the paper prints | its ranks: 10⁶ weights, 10⁹ multiply-adds | ours | MB |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for row in rows:
        one = row.published
        wanted, found = f"{one.weights}, {one.macs}", ", ".join(row.found)
        cells = [_TITLES[one.network], f"{one.share}", _HEADS[one.head], one.printed or "–", wanted]
        yield f"| {' | '.join([*cells, found if row.agrees else f'**{found}**', f'{row.bytes / 1e6:.1f}'])} |"
    for network in dict.fromkeys(row.published.network for row in rows):
        before = next(row.before for row in rows if row.published.network == network)
        weights, macs = shown(before)
        yield f"| {_TITLES[network]} | all | as it was | | | {weights}, {macs} | {4 * before.weights / 1e6:.1f} |"


def part(command: str) -> Part:
    """The place of the table of a command."""
    return Part(PAGE, f"<!-- made by tools/lrdkt.py {command} -->", f"<!-- end of {command} by tools/lrdkt.py -->")


def numbers(options: argparse.Namespace) -> None:
    """The command of that name."""
    heads = HEADS if options.head is None else (options.head,)
    chosen = [one for one in PUBLISHED if fnmatchcase(str(one), options.only) and one.head in heads]
    rows = []
    with TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for one in chosen:
            row = reproduce(one, folder)
            rows.append(row)
            print(f"{one}: {', '.join(row.found)}, {'as published' if row.agrees else 'not as published'}", flush=True)
    lines = list(table(rows))
    print("\n".join(lines))
    if options.docs:
        part("numbers").update(options.docs, "\n".join(lines))


def compared(options: argparse.Namespace) -> None:
    """The command `beside`."""
    lines = []
    for line in beside_table(beside(options.assets)):
        print(line, flush=True)
        lines.append(line)
    if options.docs:
        part("beside").update(options.docs, "\n".join(lines))


def head(options: argparse.Namespace) -> None:
    """The command `write`."""
    model = onnx.load(options.model)
    samples = None if options.samples is None else np.load(options.samples)
    try:
        made = with_pooled_head(model, samples)
    except ValueError as error:
        raise SystemExit(f"{options.model}: {error}") from error
    onnx.save(made, options.out)
    for name, each in ((options.model, model), (options.out, made)):
        weights, macs = shown(count(each))
        print(f"{name}: {weights} million weights, {macs}·10⁹ multiply-adds, {each.ByteSize() / 1e6:.1f} MB")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("numbers", help="published against written")
    one.add_argument("--only", default="*", metavar="GLOB", help="of vgg16-0.7-fc, alexnet-0.7-gap, …")
    one.add_argument("--head", choices=HEADS)
    one.add_argument("--out", type=Path, metavar="DIR", help="where files and plans stay")
    one.add_argument("--docs", type=Path, metavar="DIR")
    one.set_defaults(run=numbers)
    one = commands.add_parser("beside", help="its decomposition and ours, accuracy at the same multiply-adds")
    one.add_argument("assets", type=Path, help="folder with models/ and data/")
    one.add_argument("--docs", type=Path, metavar="DIR")
    one.set_defaults(run=compared)
    one = commands.add_parser("write", help="a model with another head")
    one.add_argument("model", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--head", choices=HEADS[1:], default="gap")
    one.add_argument("--samples", type=Path, metavar="FILE.npy", help="for the model's input")
    one.set_defaults(run=head)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
