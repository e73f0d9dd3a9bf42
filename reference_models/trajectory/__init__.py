"""The trajectory of a training: reports of its checkpoints, its onsets, and the page that shows them."""
