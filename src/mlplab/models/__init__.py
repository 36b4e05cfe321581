"""Networks, one file each, their layers and initial weights."""
