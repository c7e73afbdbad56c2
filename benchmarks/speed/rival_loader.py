"""PyTorch's DataLoader on the arrays that our pipeline reads."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.speed.rival import torch
from benchmarks.speed.worker import Arms

_NUM_WORKERS = 2


class Gathered(torch.utils.data.Dataset):
    """Batches by one gather a column, which is the fastest a DataLoader can be fed."""

    def __init__(self, path: str) -> None:
        with np.load(path) as archive:
            self.columns = {name: torch.from_numpy(archive[name]) for name in archive.files}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows: list[int]) -> dict[str, Any]:
        index = torch.tensor(rows)
        return {name: x[index] for name, x in self.columns.items()}


def pipeline(path: str, batch_size: int, num_workers: int = _NUM_WORKERS) -> Arms:
    """Shuffled batches, epoch after epoch; a turn is so many of them, told by labels."""
    torch.set_num_threads(_NUM_WORKERS)
    dataset = Gathered(path)
    order = torch.utils.data.BatchSampler(
        torch.utils.data.RandomSampler(dataset), batch_size, drop_last=True
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        sampler=order,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield from loader

    batches = endless()

    def take(count: int) -> list[list[int]]:
        labels = [next(batches)["label"] for _ in range(count)]
        return [x.tolist() for x in labels]

    return {"batches": take}
