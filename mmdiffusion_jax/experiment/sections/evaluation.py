"""How many examples and samples the evaluation takes, and by which features."""

import dataclasses

from mmdiffusion_jax import errors, metrics, ranges

_KINDS = ("pixels", "classifier", metrics.EFFICIENTNET)
_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How many examples and samples the evaluation takes, and by which features.

    Attributes:
        num_samples: samples drawn for each figure about samples.
        batch_size: test examples at once.
        num_scored: test examples, the first ones, for likelihoods (T and 2 T calls of the network
            each) and for labels by their scores; 0 leaves these figures out.
        scoring_steps: steps of the bound, spread evenly, for each score of a label; at most all.
        features: of images, for Fréchet distances, precision and recall: "pixels"; "classifier",
            a small network trained on the training split; "efficientnet", a network of natural
            images, for those with colours, which takes mmdiffusion_jax[features]; or a file with a
            small network (.safetensors) or the published weights of Inception (.pth).
        judge_steps: training steps of each classifier that judges samples or gives features.
        lpips: (backbone "alex" or "vgg", its weights file, its linear layers' file), for images
            restored from masked ones; empty for none.
        seed: of every draw in the evaluation.

    Raises:
        ValueError: fewer than 2 samples, or another number below 1.
    """

    num_samples: int = 2000
    batch_size: int = 360
    num_scored: int = 1000
    scoring_steps: int = 100
    features: str = "pixels"
    judge_steps: int = 2000
    lpips: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.features not in _KINDS and not self.features.endswith(_SUFFIXES):
            raise errors.invalid(
                "evaluation.features",
                repr(self.features),
                f"{', '.join(map(repr, _KINDS))} or a file ({', '.join(_SUFFIXES)})",
                "choose one",
            )
        if len(self.lpips) not in (0, 3) or not all(isinstance(x, str) for x in self.lpips):
            raise errors.invalid(
                "evaluation.lpips", self.lpips, "(backbone, weights, linear)", "give three"
            )
        ranges.check_whole("evaluation.num_samples", self.num_samples, 2)
        ranges.check_whole("evaluation.num_scored", self.num_scored, 0)
        for name in ("batch_size", "scoring_steps", "judge_steps"):
            ranges.check_whole(f"evaluation.{name}", getattr(self, name), 1)
        ranges.check_whole("evaluation.seed", self.seed, 0, ranges.MAX_SEED)
