"""Shows the progress of long work on standard error: a bar on a terminal, lines in a file or a notebook."""

import time
from typing import Any

from tqdm import tqdm

from transformer.messages import ABOVE_BARS, standard_error, tell

SECONDS_PER_LINE = 30.0
BAR = "{percentage:3.0f}%|{bar:20}| {n:>WIDTH,}/{total:,} {unit}s [{elapsed}<{remaining}{postfix}]"
LINE = "{percentage:.0f}% {n:,}/{total:,} {unit}s [{elapsed}<{remaining}{postfix}]"
WITHOUT_TOTAL = "{n:,} {unit}s [{elapsed}{postfix}]"


class Progress:
    """Shows how many of `total` units are done, followed by `note`.

    On a terminal this is a bar of fixed width, and messages appear above it. Elsewhere it is a line every 30
    seconds, without carriage returns, so that a log file stays readable. `total` is None if the number of
    units is unknown. If `hidden` is True, nothing is shown.
    """

    def __init__(self, total: int | None, unit: str, *, done: int = 0, hidden: bool = False) -> None:
        self.total, self.unit, self.initial, self.done = total, unit, done, done
        self.note = ""
        self.hidden = hidden
        self.began = self.told = time.monotonic()
        self.bar: tqdm[Any] | None = None
        if not hidden and (stream := standard_error()).isatty():
            width = len(f"{total or 0:,}")
            self.bar = tqdm(
                total=total,
                initial=done,
                unit=unit,
                mininterval=0.2,
                miniters=1,
                file=stream,
                dynamic_ncols=True,
                bar_format=BAR.replace("WIDTH", str(width)) if total else WITHOUT_TOTAL,
            )

    def update(self, count: int = 1) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(count)
        elif not self.hidden and time.monotonic() - self.told >= SECONDS_PER_LINE:
            self.told = time.monotonic()
            tell(self.line())

    def line(self) -> str:
        return tqdm.format_meter(
            self.done,
            self.total,  # type: ignore[arg-type]  # tqdm's type stub lacks `None`
            time.monotonic() - self.began,
            unit=self.unit,
            initial=self.initial,
            postfix=self.note or None,
            bar_format=LINE if self.total else WITHOUT_TOTAL,
        )

    def write_above(self, text: str) -> None:
        assert self.bar is not None
        self.bar.write(text, file=self.bar.fp, end="")

    def __enter__(self) -> "Progress":
        if self.bar is not None:
            ABOVE_BARS.append(self.write_above)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            ABOVE_BARS.remove(self.write_above)
            self.bar.close()
