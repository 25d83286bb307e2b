"""From the files a sweep leaves behind to figures and tables with honest error bars.

    from lop_sweeps.analysis.load import load
    from lop_sweeps.analysis.figures.performance import performance

    sweep = load("sweeps/permuted_mnist_small")
    performance(sweep.tasks, sweep.runs)

load → aggregate → figures, table → report. It reads files only and imports nothing of the training code, so
that a sweep copied to a laptop can be analysed without torch.
"""
