"""Pages of a study, of a run and of several studies, each one file that opens offline."""
