"""The console command `slidesieve`: a cohort out of folders, an experiment, a comparison, an export, one notebook."""

import typer

from flows import compare, demo, experiment, export, init, notebook

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Which tiles of a slide to keep, and what is lost.")
app.command("init")(init.main)
app.command("experiment")(experiment.main)
app.command("compare")(compare.main)
app.command("notebook", cls=notebook.NotebookCommand)(notebook.main)
app.command("demo")(demo.main)
app.command("export")(export.main)
