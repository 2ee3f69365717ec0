"""How the axes of all figures look."""


def finish(ax, title: str, x: str, y: str, legend: bool = True) -> None:
    """Names the axes of a figure, and puts its legend below them, where it covers no data, in columns that fit."""
    ax.set_title(title, fontsize="medium", loc="left")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        longest = max((len(text) for text in ax.get_legend_handles_labels()[1]), default=0)
        columns = 3 if longest <= 16 else 2 if longest <= 24 else 1
        ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns)
