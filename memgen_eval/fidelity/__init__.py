"""How like the data the samples are: figures of two sets of rows of one number, in whatever space these are."""
