"""What a person sees while an image is read: a bar a layer, on a terminal only, and gone when the answer comes."""

from __future__ import annotations

from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from service.pipeline import Progress as LayerProgress
from service.sources import ImageSource
from service.terminal import printable
from service.words import human_bytes

NAME_CHARACTERS = 12
BAR_CELLS = 28
ROWS_BESIDE = 4
"""Rows of the terminal that bars leave free."""


class Bars:
    """Implements scan.Onlooker. Enter it before anything is read; leaving it wipes the bars away."""

    def __init__(self, stream: IO[str], reference: str, *, colour: bool = True) -> None:
        self._console = Console(file=stream, no_color=not colour, highlight=False, markup=False, emoji=False)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR_CELLS),
            TextColumn("{task.fields[told]}", markup=False),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._tasks: list[TaskID] = []
        self._add(f"looking up {printable(reference)}", 0, "")

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def _add(self, name: str, total: int, told: str) -> TaskID:
        task = self._progress.add_task(name, total=total or None, told=told)
        self._tasks.append(task)
        return task

    def begin(self, image: ImageSource) -> LayerProgress:
        """Bars of one image in place of those of the last."""
        for task in self._tasks:
            self._progress.remove_task(task)
        self._tasks.clear()
        room = len(image.layers) + ROWS_BESIDE <= self._console.height
        tasks = []
        for layer in image.layers:
            name = (layer.digest or layer.diff_id).partition(":")[2][:NAME_CHARACTERS]
            tasks.append(self._add(f"{image.platform}  {name}", layer.size_bytes, "waiting"))
            self._progress.update(tasks[-1], visible=room)

        def tell(index: int, digest: str, done: int, total: int, state: str) -> None:
            task = tasks[index]
            if state == "reading":
                of = f" of {human_bytes(total)}" if total else ""
                self._progress.update(task, completed=done, total=total or None, told=human_bytes(done) + of, visible=True)
            else:
                whole = total or done or 1
                size = f", {human_bytes(total or done)}" if total or done else ""
                told = f"known{size}" if state == "known" else f"read{size}"
                self._progress.update(task, completed=whole, total=whole, told=told, visible=room)

        return tell

    def note(self, text: str) -> None:
        self._console.print(f"enoent: {printable(text)}", soft_wrap=True)
