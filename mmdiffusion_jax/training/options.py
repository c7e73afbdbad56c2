"""How long and how to train."""

import dataclasses
import math

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.training.averages import WIDEST


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How long and how to train; intervals are in steps, and 0 means never, not even at the end.

    Attributes:
        num_steps: steps of the whole run.
        batch_size: examples a step, of all devices together.
        accumulate: parts of the batch whose gradients are computed one after another and averaged,
            to save memory; divides the batch. Each part has other draws of noise and means of its
            own: where parts have other numbers of examples of a modality or a task, these weigh
            otherwise than in a whole batch, and less where a part has none (`take_step`).
        optimiser: "adamw", or "muon", which is AdamW for what is no matrix within the backbone.
        learning_rate: the peak.
        warmup_steps: from zero to the peak.
        weight_decay: of matrices only.
        gradient_clip: greatest global norm of the gradient; infinity clips nothing.
        ema_decay: of the parameters' moving average.
        ema_widths: of other averages that are kept beside it, each over about this share of the
            run (`power_decay`); what is evaluated after the last step is the one whose loss on
            held-out examples is lowest.
        max_skipped: the run ends when so many steps in a row were left out as not finite.
        log_every: metrics are averaged over this interval and written.
        eval_every: evaluation on the test split, or what `data.held_out` holds out of training, and
            after the last step.
        sample_every: a picture of samples, and after the last step.
        checkpoint_every: a checkpoint; the last step always has one, 0 or not.
        keep: how many of the newest checkpoints stay.
        keep_every: checkpoints of multiples of this are never deleted.
        best_metric: a metric of the evaluation, such as "loss"; the checkpoint with the best one
            is kept beside the newest. "" keeps none.
        best_mode: "min" or "max", which value is best.

    Raises:
        ValueError: a value out of its range.

    Example:
        >>> TrainingOptions(batch_size=64, accumulate=5)
        Traceback (most recent call last):
        ...
        ValueError: `training.accumulate`: got 5, expected a divisor of batch_size 64; change it.
    """

    num_steps: int = 4000
    batch_size: int = 64
    accumulate: int = 1
    optimiser: str = "adamw"
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    ema_widths: tuple[float, ...] = ()
    max_skipped: int = 10
    log_every: int = 100
    eval_every: int = 1000
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3
    keep_every: int = 0
    best_metric: str = ""
    best_mode: str = "min"

    def __post_init__(self) -> None:
        counts = ("num_steps", "batch_size", "accumulate", "max_skipped", "log_every", "keep")
        intervals = ("warmup_steps", "eval_every", "sample_every", "checkpoint_every", "keep_every")
        for name in (*counts, *intervals):
            least = 1 if name in counts else 0
            ranges.check_whole(f"training.{name}", getattr(self, name), least)
        ranges.check_real("training.learning_rate", self.learning_rate, 0, ends="()")
        if self.gradient_clip != math.inf:
            ranges.check_real("training.gradient_clip", self.gradient_clip, 0, ends="()")
        ranges.check_real("training.weight_decay", self.weight_decay, 0)
        ranges.check_real("training.ema_decay", self.ema_decay, 0, 1, ends="[)")
        for width in self.ema_widths:
            ranges.check_real("training.ema_widths", width, 0, WIDEST, ends="(]")
        if self.batch_size % self.accumulate:
            expected = f"a divisor of batch_size {self.batch_size}"
            raise errors.invalid("training.accumulate", self.accumulate, expected, "change it")
        ranges.check_one_of("training.optimiser", self.optimiser, ("adamw", "muon"))
        ranges.check_one_of("training.best_mode", self.best_mode, ("min", "max"))
        if self.best_metric and not self.eval_every:
            raise errors.invalid(
                "training.best_metric",
                repr(self.best_metric),
                "'' where training.eval_every is 0",
                "set an interval of evaluation",
            )
