"""Where the steps of a run lie on the disk.

A folder of checkpoints looks like this::

    <folder>/1000/               one committed step, written by Orbax
    <folder>/digests/1000.json   size and SHA-256 of each of its files, written after the commit
    <folder>/damaged/2000/       a step that did not verify, moved out of the way, never deleted

In a bucket a step has no folder to rename: an object in it, put last, says that it is whole. There
`<folder>.digests` and `<folder>.damaged` lie beside it, as Orbax deletes what lacks this object.
"""

from dataclasses import dataclass
from pathlib import Path

from orbax.checkpoint._src.path.atomicity_types import COMMIT_SUCCESS_FILE

from mmdiffusion_jax import files
from mmdiffusion_jax.training import digests


@dataclass(frozen=True)
class StepFolders:
    """The files of the steps in a folder of checkpoints; one process at a time writes them.

    Attributes:
        folder: the folder, which need not exist.
    """

    folder: Path

    def steps(self) -> list[int]:
        """The steps that have a folder, in rising order, even one that was deleted by half.

        In a bucket, those that were written to their end.
        """
        try:
            names = [entry.name for entry in self.folder.iterdir() if entry.name.isdecimal()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        if isinstance(self.folder, files.BucketPath):
            names = [x for x in names if (self.folder / x / COMMIT_SUCCESS_FILE).exists()]
        return sorted(map(int, names))

    def committed(self) -> list[int]:
        """The steps that were written to their end, in rising order; one may be damaged."""
        marks = {step: self.folder / str(step) / "_CHECKPOINT_METADATA" for step in self.steps()}
        return [step for step, mark in marks.items() if mark.exists()]

    def seal(self, step: int) -> None:
        """Writes the digests of a step, and deletes those of steps that are gone."""
        digests.seal(self.folder / str(step), self._digest_file(step))
        for entry in self._digest_file(step).parent.glob("*.json"):
            if not (self.folder / entry.stem).exists():
                entry.unlink()

    def unseal(self, step: int) -> None:
        """Deletes the digests of a step, if it has any."""
        self._digest_file(step).unlink(missing_ok=True)

    def verify(self, step: int) -> tuple[digests.Verdict, str]:
        """Compares a step with its digests, as `digests.verify`."""
        return digests.verify(self.folder / str(step), self._digest_file(step))

    def set_aside(self, steps: list[int]) -> None:
        """Moves steps with their digests to `damaged`, under a name that is free there."""
        aside = self._beside("damaged")
        aside.mkdir(exist_ok=True)
        for step in steps:
            name, copies = str(step), 0
            while (aside / name).exists():
                copies += 1
                name = f"{step}.{copies}"
            files.move(self.folder / str(step), aside / name)
            if self._digest_file(step).exists():
                files.move(self._digest_file(step), aside / f"{name}.json")

    def _digest_file(self, step: int) -> Path:
        return self._beside("digests") / f"{step}.json"

    def _beside(self, name: str) -> Path:
        if isinstance(self.folder, files.BucketPath):
            return self.folder.with_name(f"{self.folder.name}.{name}")
        return self.folder / name
