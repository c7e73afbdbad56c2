"""A picture of a report."""

import os

from mmdiffusion_jax import files
from mmdiffusion_jax.graceful.updates.report import Report

_OLD, _NEW = "tab:gray", "tab:blue"


def plot_report(report: Report, file: str | os.PathLike[str]) -> None:
    """Draws decisions, errors of the denoisers, and the index while it is encoded anew."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    decisions, denoising, search = figure.subplots(1, 3)

    for place, flip in enumerate(report.decisions.values()):
        stay = flip.old_error - flip.positive
        for offset, error, flipped, colour, word in (
            (-0.2, stay, flip.positive, "tab:green", "wrong before, right now"),
            (0.2, stay, flip.negative, "tab:red", "right before, wrong now"),
        ):
            x, first = place + offset, place == 0
            decisions.bar(x, error, 0.36, color=_OLD, label="wrong in both" * (first and x < 0))
            decisions.bar(x, flipped, 0.36, bottom=error, color=colour, label=word if first else "")
            decisions.text(
                x, error + flipped, "old" if offset < 0 else "new", ha="center", va="bottom"
            )
    decisions.set_xticks(range(len(report.decisions)), list(report.decisions))
    decisions.set(title="wrong decisions", ylabel="share")
    tallest = max((max(x.old_error, x.new_error) for x in report.decisions.values()), default=0)
    decisions.set_ylim(0, 1.6 * tallest or 1)  # room for the legend

    cells = report.denoising
    bars = {
        "deployed,\nstored": (cells.deployed, _OLD),
        "deployed,\nnew": (cells.deployed_on_new, _OLD),
        "successor,\nstored": (cells.successor_on_stored, _NEW),
        "successor,\nnew": (cells.successor, _NEW),
    }
    denoising.bar(list(bars), [x for x, _ in bars.values()], color=[c for _, c in bars.values()])
    denoising.axhline(cells.deployed, color="black", linestyle="--", linewidth=1)
    denoising.set(title="squared error, by denoiser and latents")
    denoising.tick_params(axis="x", labelsize="small")

    for name, retrieval in report.search.items():
        shares = [share for share, _ in retrieval.migration]
        values = [figures.mean_average_precision for _, figures in retrieval.migration]
        (line,) = search.plot(
            shares, values, marker="o", markersize=3, label=f"{name}: new queries"
        )
        search.axhline(
            retrieval.precision.old_old,
            color=line.get_color(),
            linestyle="--",
            linewidth=1,
            label=f"{name}: as deployed",
        )
    if not report.search:
        word = "could not be measured" if report.not_searched else "encoders are the deployed ones"
        search.text(0.5, 0.5, word, ha="center", va="center")
        search.set_axis_off()
    search.set(title="index: mAP", xlabel="share encoded anew", ylim=(0, 1.05))
    for axes in (decisions, search):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    with files.replacing(file) as stream:
        figure.savefig(stream, dpi=120, format="png")
