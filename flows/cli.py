"""The console command `slidesieve`: an experiment, one notebook, the demo."""

import typer

from flows import demo, experiment, notebook

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Which tiles of a slide to keep, and what is lost.")
app.command("experiment")(experiment.main)
app.command("notebook", cls=notebook.NotebookCommand)(notebook.main)
app.command("demo")(demo.main)
