"""The configs of the experiments, one file each; `common` holds what several of them share."""
