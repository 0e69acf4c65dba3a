"""Charts: one model of what is shown (``model``), drawn as HTML and CSS (``html``) or into files (``files``)."""
