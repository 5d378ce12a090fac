"""What penstock costs, against its peers and against code written by hand: ``python -m bench``."""
