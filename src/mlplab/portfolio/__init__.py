"""Several settings tried in cross-validation within one run, and the blend of the best ones."""
